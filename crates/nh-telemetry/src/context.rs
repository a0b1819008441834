//! Which trace a span belongs to, and whether it is sent.
//!
//! A run's trace is the 16 bytes of its id, which is a UUIDv7: a run is found by
//! the id that everybody knows, whichever processes drove it, and nothing has to
//! be kept beside it. Its root span has the last 8 bytes, so that others can
//! name it before it is there: it is sent when the run ends.

/// A span's place, as W3C Trace Context has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) is_sampled: bool,
}

impl Context {
    /// The root span of a run.
    pub(crate) fn of_run(run: u128, sampling: Sampling) -> Self {
        // Two bits of a UUID's last half are fixed, so it is never zero.
        Self { trace_id: run, span_id: run as u64, is_sampled: sampling.takes(run) }
    }

    /// A `traceparent` header; None when it is not one.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may say more behind what the first one does.
        let is_known = match hexadecimal(version, 2)? {
            0 => parts.next().is_none(),
            255 => false,
            _ => true,
        };
        let trace_id = hexadecimal(trace, 32)?;
        let span_id = u64::try_from(hexadecimal(span, 16)?).ok()?;
        let is_sampled = hexadecimal(flags, 2)? & 1 == 1;
        (is_known && trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, is_sampled })
    }
}

/// Lower-case digits only, as the standard has it.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let is_right = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_right.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Which traces are sent: a function of the trace's id, so that all processes
/// decide alike. By W3C Trace Context its last 56 bits are random; those of a
/// UUIDv7 are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    /// The first of the 56-bit numbers that are taken.
    threshold: u64,
}

impl Sampling {
    const END: u64 = 1 << 56;

    pub(crate) fn new(ratio: f64) -> Self {
        Self { threshold: ((1.0 - ratio.clamp(0.0, 1.0)) * Self::END as f64).round() as u64 }
    }

    pub(crate) fn takes(self, trace_id: u128) -> bool {
        trace_id as u64 % Self::END >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nh_testkit::SeededIds;
    use nh_types::{Ids, Timestamp};

    #[test]
    fn a_traceparent_is_read_as_the_standard_has_it() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = Context::parse(good).expect("valid");
        assert_eq!(read.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((read.span_id, read.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert!(!Context::parse(&good.replace("-01", "-00")).expect("valid").is_sampled);
        assert!(Context::parse(&good.replace("00-4", "cc-4").replace("-01", "-01-more")).is_some());
        for bad in [
            "",
            "00",
            &good.replace("00-4", "ff-4"),
            &good.to_uppercase(),
            &format!("{good}-more"),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &good.replace("00f067aa0ba902b7", "0000000000000000"),
            &good.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            &good.replace("4bf9", "4bé"),
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_ratio_takes_its_share_of_the_runs() {
        let ids = SeededIds::new(3);
        let runs: Vec<u128> = (0..2000).map(|ms| ids.uuid_v7(Timestamp::from_millis(ms)).as_u128()).collect();
        let taken = |ratio| runs.iter().filter(|run| Sampling::new(ratio).takes(**run)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, 2000));
        assert!((400..600).contains(&taken(0.25)), "{}", taken(0.25));
    }
}
