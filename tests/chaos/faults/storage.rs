//! Disks: slow, failing, full; files that were cut or changed behind our back.

use super::shim::Shim;
use super::{PATIENCE, cannot, end, plan, warm, with};
use crate::case::{Case, Outcome};
use harness::matrix::Class;
use harness::matrix::chance::Chance;
use harness::matrix::scene::Scene;
use harness::oracle;
use harness::wait;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![slow_disk(), sync_error(), wal_garbage(), flipped_line(), flipped_page()];
    cases.extend([1, 7, 40, 300].map(cut_transcript));
    cases
}

fn slow_disk() -> Case {
    let mut case = Case::new("F15 slow disk", || async {
        let shim = match Shim::build() {
            Ok(shim) => shim,
            Err(why) => return cannot(why),
        };
        let mut plan = plan();
        plan.env.extend(shim.preload());
        shim.delay_ms(200);
        let outcome = with(plan, async |scene| {
            for person in 0..3 {
                scene.write(Class::Edit, person, 1);
            }
            scene.settle(PATIENCE).await?;
            if scene.restarts > 0 || scene.reborn() {
                return Err("somebody died of a slow disk".into());
            }
            Ok(format!("{} syncs of 200 ms", shim.calls()))
        });
        let outcome = outcome.await;
        shim.delay_ms(0);
        outcome
    });
    case.injection = "LD_PRELOAD: every fdatasync and fsync takes 200 ms".into();
    case.fault = "slow disk".into();
    case.expected = "later, not worse: nobody is restarted".into();
    case
}

fn sync_error() -> Case {
    let mut case = Case::new("F16 sync errors", || async {
        let shim = match Shim::build() {
            Ok(shim) => shim,
            Err(why) => return cannot(why),
        };
        let mut plan = plan();
        plan.env.extend(shim.preload());
        with(plan, async |scene| {
            shim.fail(true);
            let before = scene.telegram.offset();
            scene.write(Class::Edit, 0, 1);
            let named = wait::within(PATIENCE, async || {
                let info = scene.info()?;
                let lines = info["degraded"].as_array()?;
                lines
                    .iter()
                    .any(|line| line.as_str().is_some_and(|line| line.contains("journal")))
                    .then_some(())
            })
            .await;
            named.ok_or("I8: status does not name the journal while its syncs fail")?;
            if scene.telegram.offset() > before {
                return Err("a message was acknowledged while nothing could be stored".into());
            }
            shim.fail(false);
            scene.settle(PATIENCE).await?;
            Ok(format!("{} syncs seen", shim.calls()))
        })
        .await
    });
    case.injection = "LD_PRELOAD: fdatasync and fsync give EIO until they are healed".into();
    case.fault = "sync errors".into();
    case.expected = "nothing acknowledged, status names the journal, goes on by itself".into();
    case
}

/// Stops a warm gateway, changes a file, starts again, sends one more message.
async fn changed(change: impl FnOnce(&Scene) -> Result<String, String>) -> Outcome {
    let mut scene = match warm(plan()).await {
        Ok(scene) => scene,
        Err(why) => return Outcome::failed(why),
    };
    scene.write(Class::Edit, 0, 1);
    let result = async {
        scene.settle(PATIENCE).await?;
        scene.gateway.kill9();
        let note = change(&scene)?;
        scene.gateway.start_again();
        scene.ready(PATIENCE).await?;
        scene.write(Class::Edit, 0, 2);
        scene.settle(PATIENCE).await?;
        Ok(note)
    }
    .await;
    end(scene, result).await
}

fn transcript(scene: &Scene) -> Result<PathBuf, String> {
    let sizes = oracle::transcripts::sizes(&scene.gateway.state_dir());
    let largest = sizes.into_iter().max_by_key(|(_, size)| *size);
    largest.map(|(path, _)| PathBuf::from(path)).ok_or_else(|| "there is no transcript".into())
}

/// F17: the last bytes of a transcript never reached the disk. They belong to a run that is closed in the journal.
fn cut_transcript(bytes: u64) -> Case {
    let mut case = Case::new(format!("F17 transcript cut by {bytes}"), move || {
        changed(move |scene| {
            let path = transcript(scene)?;
            let file = fs::OpenOptions::new().write(true).open(&path).map_err(|error| error.to_string())?;
            let length = file.metadata().map_err(|error| error.to_string())?.len();
            file.set_len(length - bytes).map_err(|error| error.to_string())?;
            Ok(format!("{length} bytes before"))
        })
    });
    case.fault = "torn write".into();
    case.injection = format!("the last {bytes} bytes of a transcript are gone");
    case.expected = "the tail is repaired, the conversation goes on".into();
    case
}

/// F17: a transaction that was being written when the power went: bytes behind the last commit.
fn wal_garbage() -> Case {
    let mut case = Case::new("F17 garbage behind the last commit", || {
        changed(|scene| {
            let path = scene.gateway.state_dir().join("journal/journal.db-wal");
            let mut file =
                fs::OpenOptions::new().append(true).open(&path).map_err(|error| error.to_string())?;
            let mut chance = Chance::new(17);
            let garbage: Vec<u8> = (0..9_000).map(|_| chance.number() as u8).collect();
            file.write_all(&garbage).map_err(|error| error.to_string())?;
            Ok("9000 bytes".into())
        })
    });
    case.fault = "torn write".into();
    case.injection = "9000 random bytes at the end of the journal's log".into();
    case.expected = "everything committed is there".into();
    case
}

/// F18 in a transcript: a line in the middle is unreadable. It is skipped, never rewritten.
fn flipped_line() -> Case {
    let mut case = Case::new("F18 bit flip in a transcript", || async {
        let mut outcome = changed(|scene| {
            let path = transcript(scene)?;
            let mut bytes = fs::read(&path).map_err(|error| error.to_string())?;
            let third = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2);
            let at = third.map(|(at, _)| at + 1).ok_or("the transcript is too short")?;
            bytes[at] ^= 0x40;
            fs::write(&path, bytes).map_err(|error| error.to_string())?;
            Ok(format!("byte {at}"))
        })
        .await;
        // The damage itself is what the oracle sees, and all that it may see.
        outcome.verdict.broken.retain(|line| !line.starts_with("I5") && !line.starts_with("log:"));
        outcome
    });
    case.fault = "bit flip".into();
    case.expected = "the line is skipped and stays, the conversation goes on".into();
    case
}

/// F18 in the journal: a damaged page is reported and nothing is answered from it.
fn flipped_page() -> Case {
    let mut case = Case::new("F18 bit flips in the journal", || async {
        let mut scene = match warm(plan()).await {
            Ok(scene) => scene,
            Err(why) => return Outcome::failed(why),
        };
        let _status = scene.gateway.terminate();
        let path = scene.gateway.state_dir().join("journal/journal.db");
        let Ok(mut bytes) = fs::read(&path) else { return Outcome::failed("no journal".into()) };
        let mut chance = Chance::new(18);
        for _ in 0..64 {
            let at = chance.between(4096, bytes.len() as u64) as usize;
            bytes[at] ^= 1 << chance.between(0, 8);
        }
        if let Err(error) = fs::write(&path, bytes) {
            return Outcome::failed(error.to_string());
        }
        let _wal = fs::remove_file(path.with_extension("db-wal"));
        scene.gateway.start_again();
        // Either it refuses to start and says why, or it runs and status names the damage.
        let said = wait::within(PATIENCE, async || {
            let log = scene.gateway.log();
            let words = ["malformed", "damaged", "corrupt", "not a database"];
            words.iter().any(|word| log.contains(word)).then_some(())
        })
        .await;
        let kept = path.exists();
        scene.gateway.kill9();
        match (said, kept) {
            (Some(()), true) => Outcome { note: "said, and kept".into(), ..Outcome::default() },
            (None, _) => Outcome::failed(format!("the damage is not named:\n{}", scene.gateway.log())),
            (_, false) => Outcome::failed("the damaged journal was thrown away".into()),
        }
    });
    case.fault = "bit flips".into();
    case.injection = "64 flipped bits in the pages of the journal".into();
    case.expected = "named, and the file is kept".into();
    case
}
