//! Figures over many cases.

/// The geometric mean of positive numbers; `None` of none.
pub fn geometric_mean(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut logarithms, mut count) = (0.0, 0.0);
    for number in numbers {
        logarithms += number.ln();
        count += 1.0;
    }
    (count > 0.0).then(|| (logarithms / count).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_doubles_cancel() {
        let mean = geometric_mean([0.5, 2.0, 1.0]).unwrap();
        assert!((mean - 1.0).abs() < 1e-12);
        assert!((geometric_mean([4.0, 9.0]).unwrap() - 6.0).abs() < 1e-12);
        assert_eq!(geometric_mean([]), None);
    }
}
