//! All tests that use the library as others do, in one program: that is built and linked once.

mod agreement;
mod cache;
mod criteria;
mod damage;
mod end_request;
mod events;
mod ext4;
mod files;
mod flips;
mod lend;
mod loops;
mod lru_sp;
mod managers;
mod policies;
mod policies_contract;
mod power_cut;
mod prefetch;
mod ready;
mod shared;
mod shared_volume;
mod shared_writes;
#[path = "shared_volume/slow_disk.rs"]
mod slow_disk;
mod stack;
mod write_back;
