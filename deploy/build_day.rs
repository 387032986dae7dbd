//! Puts the build's day into the program: no right clock shows less.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // A program that is built anew has a new day; without this line it would keep the day of the first build in this folder.
    println!("cargo::rerun-if-changed=src");
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_else(|| {
            #[allow(clippy::disallowed_methods, reason = "this runs on the builder's machine")]
            let now = std::time::SystemTime::now();
            now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
        });
    // Whole days: a build within the day gives the same program.
    println!("cargo::rustc-env=WEATHER_STATION_BUILD_DAY={}", seconds / 86_400);
}
