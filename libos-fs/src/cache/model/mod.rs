//! Caches without contents: simulators, the optimum, curves, and what managers must keep.

pub mod criteria;
mod fixed_set;
mod managed;
mod optimum;
mod simulation;
mod stack;

pub use fixed_set::fixed_set_misses;
pub use managed::ManagedSimulation;
pub use optimum::{Opt, optimal_misses};
pub use simulation::{Referenced, Simulation, simulate};
pub use stack::{LruStack, OptStack};
