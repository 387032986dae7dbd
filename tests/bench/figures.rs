//! The figures of the README: what the station needs, beside its peer or its limit in the same run. Each row is a
//! file; this one knows their order and the table. Arguments: the station's program, then `--long` or `--gate`.

#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod append;
mod drain;
mod fill;
mod machine;
mod node;
mod page;
mod rig;
mod size;
mod start;
mod steady;
mod table;
mod wire;

use std::path::PathBuf;

use self::table::Table;

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
    let extent = match arguments.next().as_deref() {
        Some("--long") => Extent::Long,
        Some("--gate") => Extent::Short,
        _ => Extent::Usual,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table = Table::new();
    runtime.block_on(async {
        size::measure(&station, &mut table);
        append::measure(&mut table).await;
        start::measure(&station, &mut table).await;
        steady::measure(&station, extent, &mut table).await;
        let node = node::measure(extent).await;
        drain::measure(&station, extent, &node, &mut table).await;
        wire::measure(&station, &node, &mut table).await;
        page::measure(&station, extent, &mut table).await;
    });
    println!("{table}");
    if extent == Extent::Short && table.failed() > 0 {
        std::process::exit(1);
    }
}
