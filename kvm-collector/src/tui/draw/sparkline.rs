//! Draws a trend as a line of bar characters.

/// Returns a line of up to `cells` bars of these levels. Each bar shows the largest of its samples; the newest sample is
/// at the right. `sample_count` is the number of samples since the start. It keeps samples in the same
/// bar from one call to the next, so bars do not flicker.
pub(super) fn sparkline(
    samples: &[f32],
    cells: usize,
    sample_count: usize,
    levels: &[char; 8],
) -> String {
    if cells == 0 || samples.is_empty() {
        return String::new();
    }
    // While there are few samples, each has its own bar.
    let in_cell = samples.len().min(sample_count).div_ceil(cells).max(1);
    let in_last = match sample_count % in_cell {
        0 => in_cell,
        part => part,
    };
    let highest = |samples: &[f32]| samples.iter().copied().fold(0.0, f32::max);
    let top = highest(samples);
    let (rest, last) = samples.split_at(samples.len().saturating_sub(in_last));
    let bar = |sample| bar(sample, top, levels);
    let mut line = vec![bar(highest(last))];
    line.extend(
        rest.rchunks(in_cell)
            .take(cells - 1)
            .map(|chunk| bar(highest(chunk))),
    );
    line.iter().rev().collect()
}

fn bar(sample: f32, top: f32, levels: &[char; 8]) -> char {
    if sample <= 0.0 || top <= 0.0 {
        return ' ';
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 8"
    )]
    let level = (sample / top * 8.0).ceil() as usize;
    levels[level.clamp(1, 8) - 1]
}

#[cfg(test)]
mod tests {
    use super::super::symbols::UNICODE;

    fn sparkline(samples: &[f32], cells: usize, sample_count: usize) -> String {
        super::sparkline(samples, cells, sample_count, &UNICODE.levels)
    }

    #[test]
    fn the_newest_sample_is_at_the_right_and_zero_is_blank() {
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0], 4, 4), " ▁▄█");
        assert_eq!(sparkline(&[0.0; 4], 4, 4), "    ");
        assert_eq!(sparkline(&[], 4, 0), "");
        assert_eq!(sparkline(&[1.0], 0, 1), "");
    }

    #[test]
    fn few_samples_have_one_bar_each() {
        assert_eq!(sparkline(&[0.0, 0.0, 0.0, 0.0, 2.0, 4.0], 3, 2), " ▄█");
    }

    #[test]
    fn samples_stay_in_the_same_bar() {
        // Two samples per bar: 8 and 0 stay together.
        assert_eq!(sparkline(&[0.0, 8.0, 0.0, 2.0, 2.0, 0.0], 3, 6), "█▂▂");
        assert_eq!(sparkline(&[8.0, 0.0, 2.0, 2.0, 0.0, 4.0], 3, 7), "▂▂▄");
        assert_eq!(sparkline(&[8.0, 0.0, 2.0, 2.0, 0.0, 4.0], 3, 8), "█▂▄");
    }
}
