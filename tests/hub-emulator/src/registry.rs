//! The device registry: who may connect, and with which keys. Shared by the hub and by the provisioning service.
//! Knows nothing of connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore as _;

/// A handle to the registry; all clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    devices: Arc<Mutex<BTreeMap<String, Device>>>,
}

/// One device identity. `Debug` does not show the keys.
#[derive(Clone)]
pub struct Device {
    /// Decoded: at most 64 bytes in practice.
    pub primary: Vec<u8>,
    pub secondary: Vec<u8>,
    pub enabled: bool,
}

/// A key that was not base64.
#[derive(Debug, thiserror::Error)]
#[error("the key of device `{device}` is not base64")]
pub struct KeyError {
    pub device: String,
}

impl Registry {
    /// Adds (or replaces) a device with two random 32-byte keys; returns the primary one in base64.
    pub fn add(&self, device: &str) -> String {
        let [primary, secondary] = [(); 2].map(|()| {
            let mut key = vec![0; 32];
            rand::thread_rng().fill_bytes(&mut key);
            key
        });
        let text = STANDARD.encode(&primary);
        self.lock().insert(device.to_owned(), Device { primary, secondary, enabled: true });
        text
    }

    /// Adds (or replaces) a device with these keys in base64; without a second key a random one is made.
    pub fn add_with_keys(
        &self,
        device: &str,
        primary: &str,
        secondary: Option<&str>,
    ) -> Result<(), KeyError> {
        let decode =
            |text: &str| STANDARD.decode(text.trim()).map_err(|_| KeyError { device: device.to_owned() });
        let primary = decode(primary)?;
        let secondary = secondary.map(decode).transpose()?;
        self.add(device);
        if let Some(entry) = self.lock().get_mut(device) {
            entry.primary = primary;
            if let Some(secondary) = secondary {
                entry.secondary = secondary;
            }
        }
        Ok(())
    }

    /// Forgets the device; false if it was not known.
    pub fn remove(&self, device: &str) -> bool {
        self.lock().remove(device).is_some()
    }

    /// A disabled device is refused; false if it is not known.
    pub fn set_enabled(&self, device: &str, enabled: bool) -> bool {
        self.lock().get_mut(device).map(|entry| entry.enabled = enabled).is_some()
    }

    /// A copy of one entry.
    pub fn get(&self, device: &str) -> Option<Device> {
        self.lock().get(device).cloned()
    }

    /// The ids, sorted.
    pub fn ids(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Device>> {
        self.devices.lock().expect("no code panics while it holds the registry")
    }
}

impl Device {
    /// The primary key in base64, as a connection string wants it.
    pub fn primary_text(&self) -> String {
        STANDARD.encode(&self.primary)
    }

    /// The secondary key in base64.
    pub fn secondary_text(&self) -> String {
        STANDARD.encode(&self.secondary)
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.ids()).finish()
    }
}
