//! I1, I2, I3, I6: what people and programs see, against what they said.

use super::{Verdict, is_placeholder};
use crate::matrix::Class;
use crate::matrix::load::{Said, tells_of_a_panic};
use crate::matrix::scene::{ANSWER, ON_IT, Scene};
use crate::model_server::marks_in;
use crate::oracle::transcripts;
use serde_json::Value;
use std::collections::BTreeMap;

pub fn check(scene: &Scene, info: &Value, verdict: &mut Verdict) {
    let said = scene.book.all();
    if scene.telegram.unconfirmed() > 0 {
        verdict.check("I2", [format!("{} updates wait although all is idle", scene.telegram.unconfirmed())]);
    }
    let failed = info["journal"]["outboxFailed"].as_u64().unwrap_or(0);
    telegram_replies(scene, &said, failed, verdict);
    rpc_replies(scene, &said, verdict);
    let orphans = info["journal"]["orphanPlaceholders"].as_u64().unwrap_or(0);
    if verdict.orphans as u64 > orphans {
        verdict.check("I3", [format!("{} empty placeholders stand, {orphans} are counted", verdict.orphans)]);
    }
}

fn telegram_replies(scene: &Scene, said: &[Said], reported: u64, verdict: &mut Verdict) {
    let mut chats: BTreeMap<i64, Vec<&Said>> = BTreeMap::new();
    for said in said.iter().filter(|said| said.class != Class::Rpc) {
        chats.entry(said.chat).or_default().push(said);
    }
    let (mut files_extra, mut files_missing) = (0_u64, 0_u64);
    for (chat, mine) in chats {
        let shown = scene.telegram.visible(chat);
        verdict.orphans += shown.iter().filter(|shown| is_placeholder(&shown.text)).count();
        let texts: Vec<&str> = shown
            .iter()
            .filter(|shown| shown.file_name.is_none() && !is_placeholder(&shown.text))
            .map(|shown| shown.text.as_str())
            .collect();
        // One note stands for the messages of one run, which were answered together.
        let told = texts.iter().any(|text| tells_of_a_panic(text));
        for said in &mine {
            let times =
                texts.iter().filter(|text| text.contains(ANSWER) && text.contains(&said.mark)).count();
            if times > 0 || !told {
                count(said, times, verdict);
            }
            let told = texts.iter().filter(|text| text.contains(ON_IT) && text.contains(&said.mark)).count();
            if told > 1 {
                verdict.doubled += 1;
                verdict
                    .check("I3", [format!("the words before the tool for {} stand {told} times", said.mark)]);
            }
        }
        let files: Vec<&str> = shown.iter().filter_map(|shown| shown.file_name.as_deref()).collect();
        for text in texts.iter().filter(|text| text.contains(ANSWER)) {
            // Messages that were answered together share one file, named after the first.
            let Some(mark) = marks_in(text).into_iter().next().filter(|mark| mark.contains("file")) else {
                continue;
            };
            let times = files.iter().filter(|name| name.contains(&mark)).count() as u64;
            files_extra += times.saturating_sub(1);
            files_missing += u64::from(times == 0);
        }
        let known = [ANSWER, ON_IT];
        let notes = texts
            .iter()
            .filter(|text| !known.iter().any(|words| text.contains(words)) && !tells_of_a_panic(text));
        verdict.check(
            "I1",
            notes.map(|text| format!("chat {chat} shows something that is no answer: {text:?}")),
        );
        verdict.check("I6", out_of_order(&mine, &texts));
    }
    if files_extra > verdict.unknown_reported {
        let text = format!("{files_extra} files too many, {} reported", verdict.unknown_reported);
        verdict.check("I3", [text]);
    }
    if files_missing > reported {
        verdict.lost += 1;
        verdict.check("I3", [format!("{files_missing} files missing, {reported} reported as failed")]);
    }
}

fn count(said: &Said, times: usize, verdict: &mut Verdict) {
    match times {
        0 => {
            verdict.lost += 1;
            verdict.check("I1", [format!("{} has no answer", said.mark)]);
        }
        1 => {}
        n => {
            verdict.doubled += 1;
            verdict.check("I3", [format!("{} is answered {n} times", said.mark)]);
        }
    }
}

/// Marks in the order of the answers that hold them, against the order of the messages.
fn out_of_order(mine: &[&Said], texts: &[&str]) -> Option<String> {
    let place = |mark: &str| texts.iter().position(|text| text.contains(mark));
    let places: Vec<usize> = mine.iter().filter_map(|said| place(&said.mark)).collect();
    let sorted = places.windows(2).all(|pair| pair[0] <= pair[1]);
    (!sorted).then(|| format!("answers stand out of order: {texts:?}"))
}

/// A program reads the history: one question and one answer for each call, in order.
fn rpc_replies(scene: &Scene, said: &[Said], verdict: &mut Verdict) {
    let mut sessions: BTreeMap<&str, Vec<&Said>> = BTreeMap::new();
    for said in said.iter().filter(|said| said.class == Class::Rpc) {
        sessions.entry(&said.session).or_default().push(said);
    }
    if sessions.is_empty() {
        return;
    }
    let read = transcripts::read(&scene.gateway.state_dir());
    let said_by = |role: &str| -> Vec<String> {
        let files = read.files.iter().flat_map(|file| file.branch());
        files.filter(|entry| entry["message"]["role"] == role).map(transcripts::text_of).collect()
    };
    let (users, answers) = (said_by("user"), said_by("assistant"));
    for (session, mine) in sessions {
        for said in &mine {
            let times =
                answers.iter().filter(|text| text.contains(ANSWER) && text.contains(&said.mark)).count();
            if times > 0 || !scene.book.was_told(&said.mark) {
                count(said, times, verdict);
            }
            let asked = users.iter().filter(|text| text.contains(&said.mark)).count();
            // A run that ended by a panic may have ended before it wrote anything.
            let written = !scene.book.was_told(&said.mark);
            if asked > 1 || (asked == 0 && written) {
                verdict.check("I3", [format!("{} stands {asked} times in {session}", said.mark)]);
            }
        }
        let texts: Vec<&str> =
            answers.iter().filter(|text| text.contains(ANSWER)).map(String::as_str).collect();
        verdict.check("I6", out_of_order(&mine, &texts));
    }
}
