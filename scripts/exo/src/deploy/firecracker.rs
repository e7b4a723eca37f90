//! A configuration file of Firecracker: the objects of its API (`src/firecracker/swagger/firecracker.yaml` of
//! its sources) under the names of their resources.

use super::{Deployment, Description, json_text, path_text};
use crate::error::Result;
use serde_json::json;

/// The configuration.
pub fn describe(deployment: &Deployment) -> Result<Description> {
    let payload = &deployment.payload;
    let mut boot = json!({
        "kernel_image_path": path_text(&payload.kernel),
        "boot_args": payload.command_line,
    });
    if let Some(bundle) = &payload.bundle {
        boot["initrd_path"] = path_text(bundle).into();
    }
    let drives = deployment.disk.iter().map(|disk| {
        json!({ "drive_id": "data", "path_on_host": path_text(disk), "is_root_device": false, "is_read_only": false })
    });
    let configuration = json!({
        "boot-source": boot,
        "drives": drives.collect::<Vec<_>>(),
        "machine-config": { "vcpu_count": deployment.cores, "mem_size_mib": deployment.memory_mib(), "smt": false },
    });
    let mut limits = vec!["Firecracker boots by PVH from version 1.12 on"];
    if deployment.nests() {
        limits.push(
            "the processor it shows must have VMX or SVM: its CPU templates take them away, so use none",
        );
        if deployment.disk.is_some() {
            limits.push("HyperExo finds disks on PCI only, which Firecracker has behind --enable-pci");
        }
    }
    let command = "firecracker --no-api --config-file FILE".into();
    Ok(Description { text: json_text(&configuration)?, command, limits, comment: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::sample;
    use firepilot_models::models::FullVmConfiguration;
    use serde_json::Value;

    /// Read into the models that were made from Firecracker's API description and written again, nothing is
    /// lost: every field is one it knows, of the right type, and none that it wants is missing.
    #[test]
    fn firecrackers_own_models_know_every_field() {
        for direct in [true, false] {
            let text = describe(&sample(direct)).unwrap().text;
            let ours: Value = serde_json::from_str(&text).unwrap();
            let read: FullVmConfiguration = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), ours);
            assert_eq!(ours["boot-source"].get("initrd_path").is_some(), !direct);
        }
    }
}
