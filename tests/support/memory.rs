//! Looks for a secret in the memory of another process.

use std::os::unix::fs::FileExt as _;

/// How often these bytes are in the writable memory of a process.
pub fn in_memory(pid: u32, bytes: &[u8]) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory =
        std::fs::File::open(format!("/proc/{pid}/mem")).expect("needs the right to read a child's memory");
    let mut found = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (from, until) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, until] = [from, until].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut content = vec![0; usize::try_from(until - from).unwrap()];
        if memory.read_exact_at(&mut content, from).is_ok() {
            found += content.windows(bytes.len()).filter(|window| *window == bytes).count();
        }
    }
    found
}
