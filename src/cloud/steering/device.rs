//! The machine, in the words of the published model `dtmi:azure:DeviceManagement:DeviceInformation;1`: who made it,
//! what runs on it, how large it is. Read once, from files of the kernel and of the distribution.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::folder_of;
use crate::outlook::Disk;

/// See the module. What is not known is `unknown`.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    manufacturer: String,
    model: String,
    os_name: String,
    processor_manufacturer: String,
    /// Kibibytes of the file system that the store is on.
    total_storage: u64,
    /// Kibibytes.
    total_memory: u64,
}

impl Default for Device {
    fn default() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            manufacturer: unknown(),
            model: unknown(),
            os_name: unknown(),
            processor_manufacturer: unknown(),
            total_storage: 0,
            total_memory: 0,
        }
    }
}

impl Device {
    /// Looks at this machine. `store` is the path of the database.
    pub fn look(store: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let total_storage = Disk::at(folder_of(store)).map_or(0, |disk| disk.size / 1_024);
        Self::from_files(
            &read("/proc/device-tree/model"),
            &read("/etc/os-release"),
            &read("/proc/cpuinfo"),
            &read("/proc/meminfo"),
            total_storage,
        )
    }

    fn from_files(board: &str, os: &str, cpu: &str, memory: &str, total_storage: u64) -> Self {
        let unknown = || "unknown".to_owned();
        let field = |text: &str, name: &str, between: char| {
            let line = text.lines().find(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(between))
            })?;
            let (_, value) = line.split_once(between)?;
            let value = value.trim().trim_matches('"');
            (!value.is_empty()).then(|| value.chars().take(100).collect::<String>())
        };
        // The device tree's text ends in a NUL: `Raspberry Pi 4 Model B Rev 1.4`.
        let board = board.trim_matches(['\0', '\n', ' ']);
        let manufacturer =
            if board.starts_with("Raspberry Pi") { Some("Raspberry Pi".to_owned()) } else { None };
        let vendor = field(cpu, "vendor_id", ':').or_else(|| {
            // Arm's manual, MIDR_EL1, "Implementer".
            field(cpu, "CPU implementer", ':')
                .map(|code| if code == "0x41" { "ARM".to_owned() } else { code })
        });
        let total_memory = field(memory, "MemTotal", ':')
            .and_then(|text| text.strip_suffix("kB").and_then(|number| number.trim().parse().ok()));
        Self {
            manufacturer: manufacturer.unwrap_or_else(unknown),
            model: if board.is_empty() { unknown() } else { board.chars().take(100).collect() },
            os_name: field(os, "PRETTY_NAME", '=').unwrap_or_else(unknown),
            processor_manufacturer: vendor.unwrap_or_else(unknown),
            total_storage,
            total_memory: total_memory.unwrap_or(0),
        }
    }

    /// As a component of the reported properties (IoT Plug and Play conventions, `__t`).
    pub fn component(&self) -> Value {
        json!({
            "__t": "c",
            "manufacturer": self.manufacturer,
            "model": self.model,
            "swVersion": env!("CARGO_PKG_VERSION"),
            "osName": self.os_name,
            "processorArchitecture": std::env::consts::ARCH,
            "processorManufacturer": self.processor_manufacturer,
            "totalStorage": self.total_storage,
            "totalMemory": self.total_memory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_disk_is_known_for_a_store_in_the_current_folder_too() {
        let device = Device::look(Path::new("readings.db"));
        assert!(device.component()["totalStorage"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn a_raspberry_pi_is_known_by_its_files() {
        let cpu = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\n";
        let memory = "MemTotal:        3884376 kB\nMemFree:          100 kB\n";
        let os = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n";
        let device = Device::from_files("Raspberry Pi 4 Model B Rev 1.4\0", os, cpu, memory, 7);
        let component = device.component();
        assert_eq!(component["manufacturer"], "Raspberry Pi");
        assert_eq!(component["model"], "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(component["osName"], "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(component["processorManufacturer"], "ARM");
        assert_eq!((&component["totalMemory"], &component["totalStorage"]), (&json!(3_884_376), &json!(7)));
        assert_eq!(component["__t"], "c");
    }

    #[test]
    fn a_machine_without_those_files_is_unknown() {
        assert_eq!(Device::from_files("", "", "", "", 0), Device::default());
        let pc = Device::from_files("", "", "vendor_id\t: GenuineIntel\n", "MemTotal: many kB", 0);
        assert_eq!(pc, Device { processor_manufacturer: "GenuineIntel".into(), ..Device::default() });
    }
}
