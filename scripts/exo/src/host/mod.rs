//! This computer: the checkout with its target directory, files that are written, programs that are
//! installed, children that are started.

pub mod checkout;
pub mod children;
pub mod output;
pub mod programs;
