//! Caches without contents: simulators, the optimum, curves, and what managers must keep.

pub mod criteria;
mod fixed_set;
mod managed;
mod optimum;
mod sample;
mod simulation;
mod stack;
mod string;

pub use fixed_set::fixed_set_misses;
pub use managed::ManagedSimulation;
pub use optimum::{Opt, optimal_misses};
pub use sample::{Sample, SampleLimit, Sampler};
pub use simulation::{Referenced, Simulation, simulate};
pub use stack::{LruStack, OptStack};
pub use string::{Numbering, ReferenceString, TooLong};
