//! Links the unikernel.
fn main() {
    unikernel_build::link();
}
