//! Random bytes of a machine: virtio-rng.
#![forbid(unsafe_code)]

use super::devices::{self, Found};
use super::machine::Machine;
use super::virtio::entropy::{EntropyError, VirtioEntropy};
use crate::cpu::lock::Masked;
use crate::platform::{DeviceFault, RandomError};
use hyperexo_hw::time;
use virtio_drivers::transport::DeviceType;

/// Held while the device is in use. Each request starts it anew.
static DEVICE: Masked<()> = Masked::new(());

/// Fills `bytes`. The device has a second for it.
pub(super) fn fill(machine: &Machine, bytes: &mut [u8]) -> Result<(), RandomError> {
    let _exclusive = DEVICE.lock();
    let Found { transport, .. } = devices::find(machine, DeviceType::EntropySource)
        .ok_or(RandomError::NoSource)?
        .map_err(RandomError::Unusable)?;
    let end = time::ticks() + machine.clock.tsc_hz;
    let filled = VirtioEntropy::new(transport).and_then(|device| device.fill(bytes, || time::ticks() > end));
    filled.map_err(|error| match error {
        EntropyError::Driver(_) => RandomError::Unusable(DeviceFault::Refused),
        EntropyError::Silent | EntropyError::Nothing => RandomError::Silent,
    })
}
