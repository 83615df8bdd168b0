//! How much of a run's words goes to the supervisor in its final message, which is one frame of a link (1 MiB) and one row of
//! the journal. PURE. What is cut stands whole in the transcript.

use proto::wire::agent::OutPart;

/// All texts to be delivered, together. A hundred times the longest message of any network.
const PARTS_BYTES_MAX: usize = 400 * 1024;
/// The reply as clients get it.
const TEXT_BYTES_MAX: usize = 300 * 1024;
const NOTE: &str =
    "\n\n[… cut here: the reply is too long to be sent. The transcript of this session has all of it.]";

/// Shortens the longest parts until all fit.
pub fn fit_parts(parts: &mut [OutPart]) {
    let mut lengths: Vec<usize> = parts.iter().map(|part| part.text.len()).collect();
    if lengths.iter().sum::<usize>() <= PARTS_BYTES_MAX {
        return;
    }
    lengths.sort_unstable();
    // Short ones stay whole; what they leave is shared by the others.
    let (mut room, mut left) = (PARTS_BYTES_MAX, lengths.len());
    let mut share = 0;
    for length in lengths {
        share = room / left.max(1);
        if length > share {
            break;
        }
        room -= length;
        left -= 1;
    }
    for part in parts.iter_mut().filter(|part| part.text.len() > share) {
        cut(&mut part.text, share);
    }
}

pub fn fit_text(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        cut(text, TEXT_BYTES_MAX);
    }
}

/// To at most `bytes`, the note included if it fits.
fn cut(text: &mut String, bytes: usize) {
    let kept = bytes.checked_sub(NOTE.len()).unwrap_or(bytes);
    text.truncate(text.floor_char_boundary(kept));
    if kept < bytes {
        text.push_str(NOTE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(lengths: &[usize]) -> Vec<OutPart> {
        lengths.iter().map(|n| OutPart { text: "é".repeat(n / 2), ..OutPart::default() }).collect()
    }

    #[test]
    fn a_short_answer_behind_a_huge_one_stays_whole() {
        let mut all = parts(&[3_000_000, 1000]);
        fit_parts(&mut all);
        assert!(all[0].text.ends_with(NOTE) && all[0].text.len() > 390 * 1024);
        assert_eq!(all[1].text.len(), 1000);
        let mut text = "x".repeat(2_000_000);
        fit_text(&mut text);
        assert!(text.len() <= TEXT_BYTES_MAX && text.ends_with(NOTE));
    }

    proptest! {
        #[test]
        fn everything_fits_and_nothing_short_is_cut(lengths in prop::collection::vec(0_usize..1_500_000, 0..12)) {
            let before = parts(&lengths);
            let mut after = before.clone();
            fit_parts(&mut after);
            prop_assert!(after.iter().map(|part| part.text.len()).sum::<usize>() <= PARTS_BYTES_MAX);
            let cut = before.iter().zip(&after).filter(|(b, a)| b != a).map(|(b, _)| b.text.len()).min();
            let whole = before.iter().zip(&after).filter(|(b, a)| b == a).map(|(b, _)| b.text.len()).max();
            prop_assert!(cut.is_none() || whole.is_none() || whole <= cut);
        }
    }
}
