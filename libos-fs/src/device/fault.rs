//! Devices that misbehave on demand.
