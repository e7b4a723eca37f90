//! What resources are bound to: devices behind one interface each, whoever drives them.

pub mod block;
pub mod net;
pub mod ram;
pub mod wire;
