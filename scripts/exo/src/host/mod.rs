//! This computer: the checkout with its target directory, files that are written, programs that are
//! installed, children that are started,
//! what others take of it.

pub mod checkout;
pub mod children;
pub mod load;
pub mod output;
pub mod programs;
