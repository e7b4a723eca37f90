//! The address space of a unikernel, and the frames it owns.
//!
//! ```text
//! 0                       nothing: null pointers fault
//! image                   constants R, code RX, data RW: nothing is writable and executable
//!   ...
//! STACK_TOP - stack       guard | critical trap stack | guard | interrupt | guard | exception | guard | stack
//! STACK_TOP
//! THREAD_STACKS           an entry of the top table for the stacks of threads, 1 MiB apart
//! WINDOWS                 16 entries of the top table, one for each window that the application pages itself
//! CORE_STACKS             512 GiB (an entry of the top table) for each further virtual CPU: stacks as above
//! LINEAR_BASE + physical  all RAM, RW, in 2 MiB pages; frames of constants and code R, in 4 KiB pages
//! ```
//!
//! The library builds these tables itself, in frames of its own. It gives the frames of the tables that it
//! was started with to the heap. Everything allocated at run time is used through the linear map, so the
//! frame of an object on the heap is a matter of subtraction ([`frame_of`]).
//!
//! | module | what |
//! |---|---|
//! | [`paging`] | page tables as data |
//! | `image` | borders of the image |
//! | `physical` | frames of this unikernel, and addresses of frames |
//! | [`heap`] | the global allocator |
//! | [`frames`] | runs of frames with an owner |
//! | `lent` | pages in the hands of a device or of the kernel |
//! | `linear` | what the linear map shows |
//! | `stacks`, `thread_stacks` | stacks of all virtual CPUs; of threads |
//! | `level` | tables that are extended while they are in use |
//! | `space` | builds the address space and enters it |
//! | [`window`] | virtual memory whose faults the application answers |

pub mod frames;
pub mod heap;
mod image;
mod lent;
mod level;
mod linear;
pub mod paging;
mod physical;
mod space;
mod stacks;
mod thread_stacks;
pub mod window;

pub(crate) use image::{boot_area, constants, image, text};
pub(crate) use lent::Lent;
pub(crate) use physical::{acquire_frames, root_address};
pub use physical::{
    acquired_frames, frame_of, free_frames, image_frames, linear_address, physical_address, quota_frames,
};
pub(crate) use space::{protect, settle, start};
pub(crate) use stacks::{
    CORE_STACK_BYTES, CoreStacks, main_stack, map_core_stacks, overflowed_stack, stack_of, trap_stacks,
};
pub use thread_stacks::MOST_STACK_BYTES;
pub(crate) use thread_stacks::{ThreadStack, thread_stack_of};
