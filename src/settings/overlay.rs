//! What the twin asks for, laid over the file: taken in patch by patch, each property answered in the Plug and Play
//! form, and written as one text that outlives a restart. Pure: knows neither disk nor network.
//!
//! A refused value leaves in force what was in force before it; a removed one goes back to the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::property::Property;
use super::{Settings, brief};
use crate::identity::Identity;

/// Unknown names that are answered one by one; more are only counted. Every answer is part of the reported
/// properties, and those are bounded (32 KB).
const UNKNOWN_ANSWERED: usize = 10;
/// An unknown name that is longer is not repeated.
const NAME_LONGEST: usize = 64;

/// Done.
const APPLIED: u16 = 200;
/// In force, and not done before it is kept.
const IN_PROGRESS: u16 = 202;
/// Not what was expected.
const REFUSED: u16 = 400;
/// In force without having been asked for (IoT Plug and Play conventions, "writable properties").
const OWN: u16 = 203;

/// The twin's part of the settings. It belongs to one identity; another one drops it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Overlay {
    /// Of the hub and the device whose twin it is; none before the first twin was read.
    owner: Option<Owner>,
    /// `$version` of the desired properties that were taken in last.
    version: u64,
    /// By the property's name, so that an older program can read a newer one's text.
    properties: BTreeMap<String, Entry>,
    /// Names that this station does not know: what is asked of them, and the version that last changed it.
    #[serde(skip)]
    unknown: BTreeMap<String, (Value, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    host: String,
    device_id: String,
}

/// One property that the twin names, or named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// As it stands in the twin, good or bad, patches merged; null where the twin no longer names it.
    asked: Value,
    /// The good value in force; none where that is the file's.
    accepted: Option<Value>,
    answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    code: u16,
    version: u64,
    text: String,
}

impl Answer {
    fn until_kept(self) -> Self {
        if self.code != APPLIED {
            return self;
        }
        let text = format!("{}; not on the disk yet: a restart may forget it", self.text);
        Self { code: IN_PROGRESS, text, ..self }
    }
}

/// The Plug and Play answer to one desired property: `value` (in force), `ac`, `av`, `ad`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acknowledgement {
    /// Null, and left out, where no value is in force: an altitude that nobody gave, an unknown name.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// 200 applied and kept, 202 applied and not kept yet, 203 the station's own value, 400 refused.
    pub ac: u16,
    /// The desired `$version` that it answers; 0 for the station's own value.
    pub av: u64,
    /// For people: what was expected, or where the value comes from.
    pub ad: String,
}

/// What a twin or a patch changed, in sentences for the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub applied: Vec<String>,
    pub refused: Vec<String>,
}

impl Overlay {
    /// An empty one that belongs to this identity.
    pub fn of(identity: &Identity) -> Self {
        let owner = Owner { host: identity.host.clone(), device_id: identity.device_id.clone() };
        Self { owner: Some(owner), ..Self::default() }
    }

    /// Whether the twin that it came from is this identity's.
    pub fn belongs_to(&self, identity: &Identity) -> bool {
        self.owner
            .as_ref()
            .is_some_and(|owner| owner.host == identity.host && owner.device_id == identity.device_id)
    }

    /// Takes in the whole desired section of a twin that was read. What it does not name goes back to the file.
    pub fn take_whole(&mut self, desired: &Map<String, Value>, version: u64, file: &Settings) -> Changes {
        let mut changes = Changes::default();
        let unknown = std::mem::take(&mut self.unknown);
        for property in Property::ALL {
            let asked = desired.get(property.name()).unwrap_or(&Value::Null);
            let known = self.properties.get(property.name()).map_or(&Value::Null, |entry| &entry.asked);
            // What has not changed keeps its answer: then a reconnect has nothing to report.
            if known != asked {
                self.ask(property, asked.clone(), version, file, &mut changes);
            }
        }
        for (name, asked) in desired {
            // As above.
            let known = unknown.get(name).filter(|(known, _)| known == asked);
            let version = known.map_or(version, |(_, version)| *version);
            self.name_unknown(name, asked.clone(), version, &mut changes);
        }
        self.version = version;
        changes
    }

    /// Takes in a patch that was pushed: a merge patch (RFC 7396) of the desired section.
    pub fn take_patch(&mut self, patch: &Map<String, Value>, version: u64, file: &Settings) -> Changes {
        let mut changes = Changes::default();
        for (name, change) in patch {
            let Some(property) = Property::from_name(name) else {
                if change.is_null() {
                    self.unknown.remove(name);
                } else {
                    let known = self.unknown.get(name);
                    let mut asked = known.map_or(Value::Null, |(asked, _)| asked.clone());
                    merge(&mut asked, change);
                    self.name_unknown(name, asked, version, &mut changes);
                }
                continue;
            };
            let before = self.properties.get(name).map_or(&Value::Null, |entry| &entry.asked);
            let mut asked = before.clone();
            merge(&mut asked, change);
            self.ask(property, asked, version, file, &mut changes);
        }
        self.version = version;
        changes
    }

    /// The settings with everything that was accepted laid over the file's.
    pub fn settings(&self, file: &Settings) -> Settings {
        let mut settings = file.clone();
        for (property, accepted) in self.accepted() {
            // It was good when it was taken in; a later program may be stricter, and then the file's holds.
            property.apply(accepted, file, &mut settings).ok();
        }
        settings
    }

    /// The properties whose value in force is the twin's.
    pub fn in_force(&self) -> impl Iterator<Item = Property> {
        self.accepted().map(|(property, _)| property)
    }

    /// Whether `kept`, which is on disk, says all of this that is ever written.
    pub fn is_kept_by(&self, kept: &Self) -> bool {
        (&self.owner, self.version, &self.properties) == (&kept.owner, kept.version, &kept.properties)
    }

    /// Every answer that belongs in the reported properties; a property without one has none in force. What `kept`
    /// (on disk) does not have is not answered as done: a restart may forget it.
    pub fn acknowledgements(
        &self,
        file: &Settings,
        kept: Option<&Self>,
    ) -> BTreeMap<String, Acknowledgement> {
        let settings = self.settings(file);
        let mut answers = BTreeMap::new();
        for property in Property::ALL {
            let value = property.in_force(&settings);
            let entry = self.properties.get(property.name());
            let mut answer = entry.map(|entry| entry.answer.clone());
            if entry != kept.and_then(|kept| kept.properties.get(property.name())) {
                answer = answer.map(Answer::until_kept);
            }
            if answer.is_none() && value.is_null() {
                continue;
            }
            let answer = answer.unwrap_or(Answer {
                code: OWN,
                version: 0,
                text: "the value of the configuration file".into(),
            });
            let Answer { code: ac, version: av, text: ad } = answer;
            answers.insert(property.name().to_owned(), Acknowledgement { value, ac, av, ad });
        }
        for (name, (_, version)) in &self.unknown {
            let ad = format!("this station has no such property; it has {}", names());
            answers
                .insert(name.clone(), Acknowledgement { value: Value::Null, ac: REFUSED, av: *version, ad });
        }
        answers
    }

    fn accepted(&self) -> impl Iterator<Item = (Property, &Value)> {
        self.properties
            .iter()
            .filter_map(|(name, entry)| Some((Property::from_name(name)?, entry.accepted.as_ref()?)))
    }

    fn ask(
        &mut self,
        property: Property,
        asked: Value,
        version: u64,
        file: &Settings,
        changes: &mut Changes,
    ) {
        let name = property.name();
        let before = self.properties.get(name);
        let mut trial = self.settings(file);
        let (accepted, code, text) = if asked.is_null() {
            let text = "no longer set in the twin: the value of the configuration file";
            changes.applied.push(format!("{name} goes back to the configuration file"));
            (None, APPLIED, text.to_owned())
        } else {
            match property.apply(&asked, file, &mut trial) {
                Ok(()) => {
                    changes.applied.push(format!("{name} = {}", brief(&property.in_force(&trial))));
                    (Some(asked.clone()), APPLIED, "applied".to_owned())
                }
                Err(problem) => {
                    changes.refused.push(problem.clone());
                    (before.and_then(|entry| entry.accepted.clone()), REFUSED, problem)
                }
            }
        };
        let answer = Answer { code, version, text };
        self.properties.insert(name.to_owned(), Entry { asked, accepted, answer });
    }

    fn name_unknown(&mut self, name: &str, asked: Value, version: u64, changes: &mut Changes) {
        if name.starts_with('$') || Property::from_name(name).is_some() {
            return;
        }
        let legal = name.len() <= NAME_LONGEST
            && !name.is_empty()
            && !name.contains(|c: char| c.is_control() || c.is_whitespace() || ".$".contains(c));
        if !legal {
            changes.refused.push("a name that no property can have".into());
            return;
        }
        changes.refused.push(format!("there is no property {name}"));
        if self.unknown.len() < UNKNOWN_ANSWERED || self.unknown.contains_key(name) {
            self.unknown.insert(name.to_owned(), (asked, version));
        }
    }
}

fn names() -> String {
    Property::ALL.map(Property::name).join(", ")
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(members) = target {
        for (name, change) in changes {
            if change.is_null() {
                members.remove(name);
            } else {
                merge(members.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
    }
}

#[cfg(test)]
mod tests;
