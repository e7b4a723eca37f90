//! The disk of a HyperExo environment.
