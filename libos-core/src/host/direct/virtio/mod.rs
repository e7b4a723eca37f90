//! Drivers of virtio devices that only an image without the exokernel has: it alone must trust them. The
//! others are in [`hyperexo_hw::virtio`], for the exokernel uses them, too.

pub(super) mod console;
pub(super) mod entropy;
