//! Links the kernel as a bare-metal image.

fn main() {
    unikernel_build::link_kernel("pvh_entry");
}
