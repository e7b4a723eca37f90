//! This computer: the checkout with its target directory, files that are written, disk images,
//! standard output, programs that are installed, children that are started, what others take of it,
//! networks of its own.

pub mod checkout;
pub mod children;
pub mod disk_image;
pub mod load;
pub mod output;
pub mod programs;
pub mod streams;
pub mod tap;
