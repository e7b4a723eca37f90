//! What executes the machine: KVM where it can run HyperExo well, else QEMU's emulator; Bochs if asked for.

use std::fs::{File, OpenOptions};

/// What executes the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// QEMU's emulator, which emulates AMD SVM.
    Tcg,
    /// Bochs, which emulates Intel VMX.
    Bochs,
}

impl Accel {
    /// Its name; for KVM and TCG also QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
            Accel::Bochs => "bochs",
        }
    }

    /// What HyperExo runs on: emulator and virtualization extension.
    pub fn platform(self) -> &'static str {
        match self {
            Accel::Bochs => "bochs-vmx",
            Accel::Kvm if Host::look().extension == Some(Extension::Vmx) => "qemu-vmx",
            Accel::Kvm | Accel::Tcg => "qemu-svm",
        }
    }

    /// The processor model to ask for unless the user names one.
    pub fn default_cpu(self) -> &'static str {
        match self {
            Accel::Kvm => "host",
            Accel::Tcg => "max",
            Accel::Bochs => crate::machine::bochs::DEFAULT_CPU,
        }
    }
}

/// What the host's processor and kernel offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The virtualization extension that `/proc/cpuinfo` shows.
    pub extension: Option<Extension>,
    /// Whether `/dev/kvm` exists and may be opened for writing.
    pub kvm_usable: bool,
    /// Whether `/dev/kvm` exists.
    pub kvm_present: bool,
    /// Whether the KVM module offers virtualization to its guests.
    pub nested: bool,
}

/// Hardware virtualization of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Intel VMX.
    Vmx,
    /// AMD SVM.
    Svm,
}

impl Host {
    /// Looks at this host.
    pub fn look() -> Host {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let extension = extension(&cpuinfo);
        let module = match extension {
            Some(Extension::Vmx) => "kvm_intel",
            _ => "kvm_amd",
        };
        let nested = std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
            .is_ok_and(|text| matches!(text.trim(), "1" | "Y"));
        Host {
            extension,
            kvm_usable: OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
            kvm_present: File::open("/dev/kvm").is_ok() || std::path::Path::new("/dev/kvm").exists(),
            nested,
        }
    }

    /// The best accelerator for what needs no virtualization of its own, and why.
    pub fn choose_direct(&self) -> (Accel, String) {
        match (self.extension, self.kvm_usable) {
            (Some(_), true) => (Accel::Kvm, "the processor has virtualization".to_owned()),
            _ => self.choose(),
        }
    }

    /// The best accelerator, and why.
    pub fn choose(&self) -> (Accel, String) {
        let tcg = |why: &str| (Accel::Tcg, why.to_owned());
        match (self.extension, self.kvm_usable, self.nested) {
            (None, true, _) => {
                tcg("the processor shows neither vmx nor svm, so /dev/kvm would be far slower")
            }
            (None, false, _) => tcg("the processor shows neither vmx nor svm"),
            (Some(_), false, _) => tcg("/dev/kvm can't be opened"),
            (Some(Extension::Svm), true, false) => tcg("kvm_amd does not allow nesting"),
            (Some(Extension::Vmx), true, false) => tcg("kvm_intel does not allow nesting"),
            (Some(Extension::Svm), true, true) => (Accel::Kvm, "AMD processor with nesting".to_owned()),
            (Some(Extension::Vmx), true, true) => (Accel::Kvm, "Intel processor with nesting".to_owned()),
        }
    }
}

fn extension(cpuinfo: &str) -> Option<Extension> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    flags.split_whitespace().find_map(|flag| match flag {
        "vmx" => Some(Extension::Vmx),
        "svm" => Some(Extension::Svm),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_taken_only_where_the_processor_can() {
        assert_eq!(extension("model\t: 1\nflags\t\t: fpu svm sse2\n"), Some(Extension::Svm));
        assert_eq!(extension("flags\t\t: fpu svm_lock sse2\n"), None);
        let host = |extension, kvm_usable, nested| Host { extension, kvm_usable, kvm_present: true, nested };
        assert_eq!(host(None, true, true).choose().0, Accel::Tcg);
        assert_eq!(host(Some(Extension::Svm), true, true).choose().0, Accel::Kvm);
        assert_eq!(host(Some(Extension::Svm), true, false).choose().0, Accel::Tcg);
        assert_eq!(host(Some(Extension::Vmx), true, true).choose().0, Accel::Kvm);
        assert_eq!(host(Some(Extension::Vmx), false, true).choose().0, Accel::Tcg);
        assert_eq!(
            host(Some(Extension::Vmx), true, false).choose_direct().0,
            Accel::Kvm,
            "no nesting needed"
        );
        assert_eq!(host(None, true, true).choose_direct().0, Accel::Tcg);
    }
}
