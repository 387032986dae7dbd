//! `check`: prints what [`crate::check`] finds, as it is found.

use std::path::Path;

use serde_json::json;

use super::{DONE, FAILED, WRONG_CONFIGURATION, core_dumps, daemon, output, runtime};
use crate::check::{self, Finding, InForce, Status};
use crate::config;

/// 0 when nothing failed (warnings allowed), 1 when something did, 78 when the configuration is wrong.
pub fn run(file: &Path, json: bool) -> anyhow::Result<u8> {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(error) => return wrong(check::configuration::wrong(&error), json),
    };
    // It signs in to the hub with a token of its own.
    core_dumps::forbid();
    let runtime = runtime::start()?;
    let station = runtime.block_on(daemon::station(&config));
    if let Some(unusable) = check::configuration::unusable(&config, &station) {
        runtime::end(runtime);
        return wrong(unusable, json);
    }
    let in_force = runtime.block_on(InForce::of(config, &station));
    let configuration = check::configuration::check(file, &in_force, &station);
    show(&configuration, json);
    let mut findings = vec![configuration];
    findings.extend(runtime.block_on(check::all(&in_force.config, &station, |finding| show(finding, json))));
    runtime::end(runtime);
    finish(&findings, json)?;
    let failed = findings.iter().any(|finding| finding.status == Status::Failed);
    Ok(if failed { FAILED } else { DONE })
}

/// Nothing behind a wrong configuration is looked at.
fn wrong(finding: Finding, json: bool) -> anyhow::Result<u8> {
    show(&finding, json);
    finish(&[finding], json)?;
    Ok(WRONG_CONFIGURATION)
}

fn show(finding: &Finding, json: bool) {
    if json {
        return;
    }
    let status = match finding.status {
        Status::Ok => "ok     ",
        Status::Warning => "warning",
        Status::Failed => "FAILED ",
    };
    let mut text = format!("{status}  {:<14}{}\n", finding.name, finding.detail);
    if let Some(remedy) = &finding.remedy {
        text.push_str(&format!("{:23}-> {remedy}\n", ""));
    }
    // The result follows in the exit status even when nobody reads on.
    drop(output::print(&text));
}

fn finish(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    if json {
        return output::verdict(serde_json::to_string_pretty(&json!({ "checks": findings }))?);
    }
    let (ok, warnings, failed) = (count(Status::Ok), count(Status::Warning), count(Status::Failed));
    output::verdict(format_args!("{ok} ok, {warnings} warnings, {failed} failed"))
}
