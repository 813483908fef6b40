//! `hotlb run` shows what its generations write.

use std::{
    collections::HashMap,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{agent::Agent, cli, sys::reader};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Prints what the agent's generations write, from now on, until the task is ended.
pub async fn outputs(agent: &Arc<Agent>) {
    let mut positions: HashMap<PathBuf, u64> = HashMap::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        for service in agent.look().await.status().await.services {
            for generation in service.generations {
                let position = positions.entry(generation.output.clone()).or_default();
                for line in news(&generation.output, position) {
                    cli::relay(&generation.name, &line);
                }
            }
        }
    }
}

/// The whole lines behind `position`, which moves past them.
fn news(path: &Path, position: &mut u64) -> Vec<String> {
    let length = path.metadata().map_or(0, |file| file.len());
    if length >= *position {
        return lines(path, position);
    }
    // It was turned over.
    let mut news = lines(&reader::aside(path), position);
    *position = 0;
    news.extend(lines(path, position));
    news
}

fn lines(path: &Path, position: &mut u64) -> Vec<String> {
    let Ok(mut file) = std::fs::File::open(path) else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(*position)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let end = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    *position += end as u64;
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default())
        .lines()
        .map(reader::printable)
        .collect()
}
