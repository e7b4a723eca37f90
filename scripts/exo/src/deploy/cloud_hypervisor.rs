//! A machine of Cloud Hypervisor: the object `VmConfig` of its API
//! (`vmm/src/api/openapi/cloud-hypervisor.yaml` of its sources).

use super::{Deployment, Description, json_text, path_text};
use crate::error::Result;
use serde_json::json;

/// The machine.
pub fn describe(deployment: &Deployment) -> Result<Description> {
    let payload = &deployment.payload;
    let mut configuration = json!({
        "cpus": { "boot_vcpus": deployment.cores, "max_vcpus": deployment.cores, "nested": deployment.nests() },
        "memory": { "size": deployment.memory_mib() << 20 },
        "payload": { "kernel": path_text(&payload.kernel), "cmdline": payload.command_line },
        "serial": { "mode": "Tty" },
        "console": { "mode": "Off" },
    });
    if let Some(bundle) = &payload.bundle {
        configuration["payload"]["initramfs"] = path_text(bundle).into();
    }
    if let Some(disk) = &deployment.disk {
        configuration["disks"] = json!([{ "path": path_text(disk), "readonly": false }]);
    }
    let mut limits = Vec::new();
    if deployment.nests() {
        limits.push("the host must allow nesting: kvm_intel or kvm_amd with nested=1");
    }
    let command = "cloud-hypervisor --api-socket /tmp/ch.sock & sleep 1; ch-remote --api-socket /tmp/ch.sock create FILE \
                   && ch-remote --api-socket /tmp/ch.sock boot; wait";
    Ok(Description { text: json_text(&configuration)?, command: command.into(), limits, comment: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::sample;
    use cloud_hypervisor_client::models::VmConfig;
    use serde_json::Value;

    /// As for Firecracker: read into models made from its API description and written again, nothing is lost.
    #[test]
    fn cloud_hypervisors_own_models_know_every_field() {
        for direct in [true, false] {
            let text = describe(&sample(direct)).unwrap().text;
            let ours: Value = serde_json::from_str(&text).unwrap();
            let read: VmConfig = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), ours);
            assert_eq!(ours["cpus"]["nested"], !direct);
        }
    }
}
