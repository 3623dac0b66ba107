//! Trends as a line of bars.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// So many cells of bars, each for the highest of its samples, the last one last. `taken` is how many
/// samples there have ever been: cells begin at the same samples from one reading to the next, or they
/// would flicker.
pub(super) fn sparkline(samples: &[f32], cells: usize, sample_count: usize) -> String {
    if cells == 0 || samples.is_empty() {
        return String::new();
    }
    // As long as there are few, each has its own.
    let in_cell = samples.len().min(sample_count).div_ceil(cells).max(1);
    let in_last = match sample_count % in_cell {
        0 => in_cell,
        part => part,
    };
    let highest = |samples: &[f32]| samples.iter().copied().fold(0.0, f32::max);
    let top = highest(samples);
    let (rest, last) = samples.split_at(samples.len().saturating_sub(in_last));
    let mut line = vec![bar(highest(last), top)];
    line.extend(
        rest.rchunks(in_cell)
            .take(cells - 1)
            .map(|chunk| bar(highest(chunk), top)),
    );
    line.iter().rev().collect()
}

fn bar(sample: f32, top: f32) -> char {
    if sample <= 0.0 || top <= 0.0 {
        return ' ';
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 8"
    )]
    let level = (sample / top * 8.0).ceil() as usize;
    BARS[level.clamp(1, 8) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sample_is_at_the_right_and_nothing_is_blank() {
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0], 4, 4), " ▁▄█");
        assert_eq!(sparkline(&[0.0; 4], 4, 4), "    ");
        assert_eq!(sparkline(&[], 4, 0), "");
        assert_eq!(sparkline(&[1.0], 0, 1), "");
    }

    #[test]
    fn few_samples_have_a_cell_each() {
        assert_eq!(sparkline(&[0.0, 0.0, 0.0, 0.0, 2.0, 4.0], 3, 2), " ▄█");
    }

    #[test]
    fn cells_keep_their_samples_as_new_ones_come() {
        // Two samples to a cell: the pair of 8 and 0 stays together.
        assert_eq!(sparkline(&[0.0, 8.0, 0.0, 2.0, 2.0, 0.0], 3, 6), "█▂▂");
        assert_eq!(sparkline(&[8.0, 0.0, 2.0, 2.0, 0.0, 4.0], 3, 7), "▂▂▄");
        assert_eq!(sparkline(&[8.0, 0.0, 2.0, 2.0, 0.0, 4.0], 3, 8), "█▂▄");
    }
}
