//! What tests of the whole kernel ask of the disk.

use super::*;

impl Disk {
    /// Frames that requests and rings keep pinned, each as often as it is.
    pub fn pinned(&self) -> Vec<u64> {
        let requests = self.in_flight.iter().flatten().flat_map(InFlight::frames);
        let rings = self.holdings.iter().flatten().filter_map(|holding| holding.ring.as_ref());
        requests.chain(rings.flat_map(Ring::frames)).collect()
    }

    /// Requests that the device has not given back.
    pub fn requests(&self) -> usize {
        self.in_flight.iter().flatten().count()
    }

    /// Frames of maps on the account of an environment.
    pub fn map_frames(&self, id: EnvironmentId) -> u64 {
        self.extents.map_frames(id)
    }
}
