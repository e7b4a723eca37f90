//! A domain of libvirt (libvirt.org, "Domain XML format").

use super::{Deployment, Description, path_text};

/// The domain.
pub fn describe(deployment: &Deployment) -> Description {
    let payload = &deployment.payload;
    let initrd = payload
        .bundle
        .as_deref()
        .map_or_else(String::new, |bundle| format!("\n    <initrd>{}</initrd>", escape(&path_text(bundle))));
    let disk = deployment.disk.as_deref().map_or_else(String::new, |disk| {
        format!(
            "\n    <disk type='file' device='disk'>\n      <driver name='qemu' type='raw' error_policy='report'/>\n      \
             <source file='{}'/>\n      <target dev='vda' bus='virtio'/>\n    </disk>",
            escape(&path_text(disk))
        )
    });
    // The last lines make the machine's end visible: the device turns the kernel's status S into QEMU's,
    // 2S + 1.
    let text = format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='KiB'>{memory}</memory>
  <vcpu>{cores}</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>{initrd}
    <cmdline>{command_line}</cmdline>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <cpu mode='host-passthrough'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>{disk}
    <serial type='pty'>
      <target port='0'/>
    </serial>
    <console type='pty'>
      <target type='serial' port='0'/>
    </console>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-device'/>
    <qemu:arg value='isa-debug-exit,iobase=0xf4'/>
  </qemu:commandline>
</domain>
",
        name = escape(&payload.name),
        memory = deployment.memory_bytes.div_ceil(1024),
        cores = deployment.cores,
        kernel = escape(&path_text(&payload.kernel)),
        command_line = escape(&payload.command_line),
    );
    let mut limits = Vec::new();
    if deployment.nests() {
        limits.push("the host must allow nesting: kvm_intel or kvm_amd with nested=1");
    }
    Description {
        text,
        command: "virsh create FILE --console".into(),
        limits,
        comment: Some(("<!-- ", " -->")),
    }
}

/// Text as content or attribute of XML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::sample;

    #[test]
    fn names_and_words_are_quoted() {
        let alone = describe(&sample(true)).text;
        assert!(alone.contains(
            "<kernel>/srv/a &amp; b/kernel.elf</kernel>\n    <cmdline>name=hello -- greeting=&lt;a&gt;"
        ));
        assert!(!alone.contains("<initrd>"));
        assert!(alone.contains("<memory unit='KiB'>65536</memory>") && alone.contains("<vcpu>2</vcpu>"));
        let nested = describe(&sample(false));
        assert!(nested.text.contains("<initrd>/srv/a &amp; b/hello.bundle</initrd>"));
        assert_eq!(nested.limits.len(), 1);
    }
}
