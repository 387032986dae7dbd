//! What the station needs, beside its peer or its limit in the same run. Each topic is a file; this one knows their
//! order and the table. Arguments: the station's program, then `--long` or `--gate`, then topics if not all of them.

#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod append;
mod bare;
mod cpu_clock;
mod device;
mod drain;
mod fill;
mod fleet;
mod machine;
mod node;
mod page;
mod recovery;
mod rig;
mod size;
mod start;
mod steady;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod wire;

use std::path::PathBuf;

use self::table::Table;

/// What is measured, in this order.
const TOPICS: [&str; 10] =
    ["size", "append", "start", "recovery", "page", "device", "fleet", "steady", "drain", "wire"];

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Short,
    Usual,
    Long,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let station = PathBuf::from(arguments.next().expect("the station's program"));
    if station.as_os_str() == "bare" {
        let peer = arguments.next().and_then(|peer| peer.parse().ok()).expect("the peer");
        return bare::run(peer, &PathBuf::from(arguments.next().expect("the file")));
    }
    let (flags, topics): (Vec<_>, Vec<_>) = arguments.partition(|argument| argument.starts_with("--"));
    let extent = match flags.first().map(String::as_str) {
        Some("--long") => Extent::Long,
        Some("--gate") => Extent::Short,
        _ => Extent::Usual,
    };
    let unknown = topics.iter().find(|topic| !TOPICS.contains(&topic.as_str()));
    assert!(unknown.is_none(), "{unknown:?} is no topic: expected some of {TOPICS:?}");
    let wanted = |topic: &str| topics.is_empty() || topics.iter().any(|named| named == topic);
    machine::prove();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table = Table::new();
    runtime.block_on(async {
        if wanted("size") {
            size::measure(&station, extent, &mut table);
        }
        if wanted("append") {
            append::measure(&mut table).await;
        }
        if wanted("start") {
            start::measure(&station, &mut table).await;
        }
        if wanted("recovery") {
            recovery::measure(&mut table).await;
        }
        if wanted("page") {
            page::measure(&station, extent, &mut table).await;
        }
        if wanted("device") && (extent == Extent::Long || !topics.is_empty()) {
            device::measure(&station, &mut table).await;
        }
        if wanted("fleet") && (extent == Extent::Long || !topics.is_empty()) {
            fleet::measure(&mut table).await;
        }
        if ["steady", "drain", "wire"].into_iter().any(wanted) {
            let node = node::measure(extent).await;
            if wanted("steady") {
                steady::measure(&station, extent, &node, &mut table).await;
            }
            if wanted("drain") {
                drain::measure(&station, extent, &node, &mut table).await;
            }
            if wanted("wire") {
                wire::measure(&station, &node, &mut table).await;
            }
        }
    });
    println!("{table}");
    if extent != Extent::Usual && table.failed() > 0 {
        std::process::exit(1);
    }
}
