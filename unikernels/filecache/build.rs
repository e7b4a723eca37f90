//! Links the unikernel. With the feature `data` there is none: `filecache` is a program of the host then.
fn main() {
    if std::env::var_os("CARGO_FEATURE_DATA").is_none() {
        unikernel_build::link();
    }
}
