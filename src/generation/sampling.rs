//! Logits → the next token.
//!
//! Greedy by default. With a temperature, tokens are drawn in the order transformers uses: repeat penalty, temperature,
//! top-k, top-p, min-p. The same seed gives the same tokens.

use anyhow::{Result, ensure};

use super::GenerationOptions;

/// Tokens of the recent text that the repeat penalty looks at, as in llama.cpp.
const PENALISED_TOKENS: usize = 64;

/// Draws tokens; holds the state of the random numbers.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    min_p: f64,
    repeat_penalty: f32,
    random: SplitMix64,
}

impl Sampler {
    /// A sampler that begins with the seed of the options.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub(crate) fn new(options: &GenerationOptions) -> Result<Self> {
        let check = |holds: bool, name: &str, value: f64, range: &str| -> Result<()> {
            ensure!(holds, "{name}: expected {range}, got {value}");
            Ok(())
        };
        let GenerationOptions {
            temperature,
            top_p,
            top_k,
            min_p,
            repeat_penalty,
            seed,
            max_tokens: _,
        } = *options;
        let finite = temperature.is_finite() && temperature >= 0.0;
        check(finite, "temperature", temperature, "0 or more")?;
        check(
            top_p > 0.0 && top_p <= 1.0,
            "top_p",
            top_p,
            "above 0, at most 1",
        )?;
        check((0.0..=1.0).contains(&min_p), "min_p", min_p, "0 to 1")?;
        let finite = repeat_penalty.is_finite() && repeat_penalty > 0.0;
        check(finite, "repeat_penalty", repeat_penalty.into(), "above 0")?;
        Ok(Sampler {
            temperature,
            top_p,
            top_k,
            min_p,
            repeat_penalty,
            random: SplitMix64(seed),
        })
    }

    /// Whether every token is the one with the highest logit, so that a draft can be checked by its logits alone.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && self.repeat_penalty == 1.0
    }

    /// The next token, given the logits of all and the tokens of the text so far.
    ///
    /// # Errors
    /// When no logit is a number.
    pub(crate) fn next(&mut self, logits: &[f32], text: &[u32]) -> Result<u32> {
        if self.is_greedy() {
            return most_likely(logits);
        }
        let mut logits = logits.to_vec();
        self.penalise(&mut logits, text);
        if self.temperature == 0.0 {
            return most_likely(&logits);
        }
        let mut candidates = self.probabilities(&logits)?;
        self.keep_likely(&mut candidates);
        let total: f64 = candidates.iter().map(|(_, probability)| probability).sum();
        let mut remaining = self.random.next_unit() * total;
        for &(token, probability) in &candidates {
            remaining -= probability;
            if remaining < 0.0 {
                return Ok(token);
            }
        }
        // Rounding may leave a hair's breadth after the last candidate.
        most_likely(&logits)
    }

    /// Makes tokens of the recent text less likely (Keskar et al. 2019, arXiv:1909.05858, section 4.1).
    fn penalise(&self, logits: &mut [f32], text: &[u32]) {
        if self.repeat_penalty == 1.0 {
            return;
        }
        let recent = text.get(text.len().saturating_sub(PENALISED_TOKENS)..);
        let recent: std::collections::BTreeSet<u32> =
            recent.unwrap_or(&[]).iter().copied().collect();
        for token in recent {
            let logit = usize::try_from(token)
                .ok()
                .and_then(|token| logits.get_mut(token));
            if let Some(logit) = logit {
                if *logit > 0.0 {
                    *logit /= self.repeat_penalty;
                } else {
                    *logit *= self.repeat_penalty;
                }
            }
        }
    }

    /// Tokens with their probabilities at this temperature, most likely first (equal ones by id), cut to `top_k`.
    fn probabilities(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>> {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        ensure!(highest.is_finite(), "the model gave no finite logits");
        let mut candidates = Vec::with_capacity(logits.len());
        for (token, &logit) in logits.iter().enumerate() {
            let weight = ((f64::from(logit) - highest) / self.temperature).exp();
            if weight > 0.0 {
                candidates.push((u32::try_from(token)?, weight));
            }
        }
        candidates.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        if self.top_k > 0 {
            candidates.truncate(self.top_k);
        }
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        for (_, weight) in &mut candidates {
            *weight /= total;
        }
        Ok(candidates)
    }

    /// Cuts to the nucleus and to the tokens likely enough next to the first; one always stays.
    fn keep_likely(&self, candidates: &mut Vec<(u32, f64)>) {
        let mut total = 0.0;
        let n_nucleus = candidates
            .iter()
            .take_while(|(_, probability)| {
                let is_inside = total < self.top_p;
                total += probability;
                is_inside
            })
            .count();
        candidates.truncate(n_nucleus.max(1));
        let floor = candidates
            .first()
            .map_or(0.0, |(_, first)| first * self.min_p);
        candidates.retain(|(_, probability)| *probability >= floor);
    }
}

/// The token with the highest logit; of equal ones the first.
///
/// # Errors
/// When no logit is a number.
pub(crate) fn most_likely(logits: &[f32]) -> Result<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if logit.is_finite() && best.is_none_or(|(_, highest)| logit > highest) {
            best = Some((token, logit));
        }
    }
    let Some((token, _)) = best else {
        anyhow::bail!("the model gave no finite logits");
    };
    Ok(u32::try_from(token)?)
}

/// Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": small, and the same everywhere.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    /// Uniform in 0 (included) to 1 (excluded).
    fn next_unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are what an f64 holds exactly"
        )]
        let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, f32::NEG_INFINITY, 2.5];

    fn draw(options: GenerationOptions, n_tokens: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(&options).unwrap();
        (0..n_tokens)
            .map(|_| sampler.next(&LOGITS, &[]).unwrap())
            .collect()
    }

    fn warm() -> GenerationOptions {
        GenerationOptions {
            temperature: 1.0,
            ..GenerationOptions::default()
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_most_likely() {
        assert_eq!(draw(GenerationOptions::default(), 2), [1, 1]);
        assert_eq!(most_likely(&[0.0, 7.0, 7.0]).unwrap(), 1);
        assert_eq!(most_likely(&[f32::NAN, -1.0]).unwrap(), 1);
        assert!(most_likely(&[f32::NAN]).is_err());
    }

    #[test]
    fn shares_follow_the_softmax() {
        let drawn = draw(warm(), 20_000);
        let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
        for (token, &logit) in LOGITS.iter().enumerate() {
            let expected = f64::from(logit).exp() / total;
            let n_drawn = drawn.iter().filter(|&&t| t as usize == token).count();
            let share = n_drawn as f64 / drawn.len() as f64;
            assert!(
                (share - expected).abs() < 0.012,
                "token {token}: {share} instead of {expected}"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(draw(warm(), 50), draw(warm(), 50));
        let other = GenerationOptions { seed: 1, ..warm() };
        assert_ne!(draw(warm(), 50), draw(other, 50));
    }

    #[test]
    fn each_cut_leaves_the_likely_tokens() {
        let check = |options: GenerationOptions, expected: &[u32]| {
            let mut drawn = draw(options, 2_000);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn, expected);
        };
        check(warm(), &[0, 1, 2, 4]);
        check(GenerationOptions { top_k: 2, ..warm() }, &[1, 4]);
        // Probabilities are .48, .29, .18 and .07.
        check(
            GenerationOptions {
                top_p: 0.4,
                ..warm()
            },
            &[1],
        );
        check(
            GenerationOptions {
                top_p: 0.5,
                ..warm()
            },
            &[1, 4],
        );
        check(
            GenerationOptions {
                min_p: 0.3,
                ..warm()
            },
            &[1, 2, 4],
        );
    }

    #[test]
    fn the_penalty_reaches_back_and_no_further() {
        let options = GenerationOptions {
            repeat_penalty: 2.0,
            ..GenerationOptions::default()
        };
        let mut sampler = Sampler::new(&options).unwrap();
        assert_eq!(sampler.next(&LOGITS, &[1]).unwrap(), 4);
        assert_eq!(sampler.next(&LOGITS, &[1, 4, 1]).unwrap(), 2);
        let mut long = vec![1];
        long.extend([0; PENALISED_TOKENS]);
        assert_eq!(sampler.next(&LOGITS, &long).unwrap(), 1);
        assert_eq!(sampler.next(&[-1.0, -1.5], &[0]).unwrap(), 1);
    }

    #[test]
    fn an_option_out_of_range_is_named() {
        let options = GenerationOptions {
            top_p: 0.0,
            ..GenerationOptions::default()
        };
        let error = Sampler::new(&options).unwrap_err();
        assert_eq!(
            error.to_string(),
            "top_p: expected above 0, at most 1, got 0"
        );
    }
}
