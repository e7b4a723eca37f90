//! A virtual machine of KubeVirt that takes its kernel from a container image (KubeVirt's user guide, "Direct
//! Kernel Boot"; API `kubevirt.io/v1`, `VirtualMachine`, `KernelBoot`).

use super::{Deployment, Description};
use crate::image::{BUNDLE_PATH, KERNEL_PATH};

/// Name of the claim of a volume that holds the disk.
const CLAIM: &str = "data";

/// The virtual machine.
pub fn describe(deployment: &Deployment) -> Description {
    let payload = &deployment.payload;
    let name = quote(&payload.name);
    let initrd = if deployment.nests() {
        format!("\n              initrdPath: {}", quote(BUNDLE_PATH))
    } else {
        String::new()
    };
    let (disks, volumes) = if deployment.disk.is_some() {
        (
            format!(
                "\n          disks:\n            - name: {CLAIM}\n              disk:\n                bus: virtio"
            ),
            format!(
                "\n      volumes:\n        - name: {CLAIM}\n          persistentVolumeClaim:\n            claimName: {CLAIM}"
            ),
        )
    } else {
        ("\n          disks: []".to_owned(), String::new())
    };
    let text = format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: {name}
spec:
  runStrategy: Once
  template:
    spec:
      domain:
        cpu:
          cores: {cores}
          model: host-passthrough
        memory:
          guest: {memory}Mi
        firmware:
          kernelBoot:
            kernelArgs: {command_line}
            container:
              image: {image}
              kernelPath: {kernel}{initrd}
        devices:
          autoattachPodInterface: false
          autoattachGraphicsDevice: false
          autoattachMemBalloon: false{disks}{volumes}
",
        cores = deployment.cores,
        memory = deployment.memory_mib(),
        command_line = quote(&payload.command_line),
        image = quote(&deployment.container_image),
        kernel = quote(KERNEL_PATH),
    );
    let mut limits =
        vec!["the container image is made by `exo image --format oci`, and pushed with skopeo copy"];
    if deployment.nests() {
        limits.push("the nodes must allow nesting: kvm_intel or kvm_amd with nested=1");
    }
    if deployment.disk.is_some() {
        limits.push(
            "the disk is the volume that the claim named data binds: upload it with virtctl image-upload",
        );
    }
    Description { text, command: "kubectl apply -f FILE".into(), limits, comment: Some(("# ", "")) }
}

/// A string of YAML: those of JSON are strings of YAML too.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::sample;

    #[test]
    fn the_kernel_comes_from_the_container_image() {
        let text = describe(&sample(false)).text;
        assert!(text.contains("image: \"registry.example/hello:1\""));
        assert!(
            text.contains("kernelPath: \"/boot/kernel.elf\"")
                && text.contains("initrdPath: \"/boot/bundle\"")
        );
        assert!(text.contains("bus: virtio") && text.contains("claimName: data"));
        let mut alone = sample(true);
        alone.disk = None;
        let text = describe(&alone).text;
        assert!(text.contains(r#"kernelArgs: "name=hello -- greeting=<a> b=\"c\" d=50% e=$HOME""#), "{text}");
        assert!(!text.contains("initrdPath") && !text.contains("volumes:"));
    }
}
