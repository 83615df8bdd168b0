//! Two-word names for background commands: easy to say, easy to repeat for a model.

const FIRST: &[&str] = &[
    "amber", "brisk", "calm", "clear", "cool", "crisp", "dawn", "deep", "eager", "fair", "fast", "fresh",
    "gentle", "glad", "grand", "keen", "kind", "lucky", "mellow", "mild", "neat", "nimble", "nova", "plain",
    "prime", "quick", "quiet", "rapid", "sharp", "swift", "tidal", "warm", "wild", "young",
];
const SECOND: &[&str] = &[
    "atlas", "basil", "bison", "breeze", "canyon", "cedar", "cloud", "comet", "coral", "cove", "crest",
    "daisy", "dune", "ember", "falcon", "fjord", "forest", "glade", "harbor", "heron", "lagoon", "lark",
    "maple", "meadow", "nexus", "oasis", "orbit", "otter", "pine", "reef", "ridge", "river", "sage", "shore",
    "summit", "tide", "trail", "valley", "willow", "zephyr",
];

/// Attempts before a number is added; the table is far smaller than the number of pairs.
const ATTEMPTS: usize = 12;

/// A name that is not `taken`.
pub fn fresh(taken: impl Fn(&str) -> bool) -> String {
    let mut id = pair();
    for attempt in 0.. {
        if !taken(&id) {
            break;
        }
        id = if attempt < ATTEMPTS { pair() } else { format!("{}-{attempt}", pair()) };
    }
    id
}

fn pair() -> String {
    let mut random = [0u8; 2];
    // Without randomness the names repeat, which `fresh` mends.
    let _unseeded = getrandom::fill(&mut random);
    let pick = |words: &[&'static str], byte: u8| words.get(usize::from(byte) % words.len()).copied();
    let [first, second] = random;
    format!("{}-{}", pick(FIRST, first).unwrap_or("plain"), pick(SECOND, second).unwrap_or("pine"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_free_ones() {
        let mut taken = std::collections::HashSet::new();
        for _ in 0..3000 {
            let id = super::fresh(|id| taken.contains(id));
            assert!(taken.insert(id));
        }
    }
}
