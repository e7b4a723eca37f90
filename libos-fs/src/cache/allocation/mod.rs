//! Who pays for a missing block: managers, their priorities, and the rule between them.

mod managers;
mod placeholders;
mod pools;
mod rule;

pub use managers::{ManagerId, ManagerStatistics};
pub(super) use managers::{Managers, Place, Victim};
pub use rule::{Allocation, UnknownAllocation};
