//! Steered from the cloud: the real binary, a hub over TLS that plays the service side, and what each makes of the
//! other. The twin, direct methods, messages to the device, and the model that describes them.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bench;
mod desired;
mod hostile;
mod late_store;
mod methods;
mod model;
mod parts;
mod renewal;
#[path = "../support/mod.rs"]
mod support;
