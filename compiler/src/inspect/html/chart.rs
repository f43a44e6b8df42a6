//! Axes of the charts.

/// A logarithmic axis: values `from..to` over `length` pixels.
pub(super) struct Logarithmic {
    pub from: f64,
    pub to: f64,
    pub length: f64,
}

impl Logarithmic {
    /// The smallest axis of whole decades that holds all `values`, which are above 0.
    pub fn around(values: impl Iterator<Item = f64> + Clone, length: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        let from = 10f64.powf(low.log10().floor());
        let to = 10f64.powf(high.log10().ceil()).max(from * 10.0);
        Self { from, to, length }
    }

    /// Pixels from the start of the axis.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value / self.from).log10() / (self.to / self.from).log10();
        share.clamp(0.0, 1.0) * self.length
    }

    /// The powers of ten on it.
    pub fn decades(&self) -> Vec<f64> {
        let (first, last) = (self.from.log10().round() as i32, self.to.log10().round() as i32);
        (first..=last).map(|power| 10f64.powi(power)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_values() {
        let axis = Logarithmic::around([2.0, 3e3].into_iter(), 100.0);
        assert_eq!(axis.decades(), [1.0, 10.0, 100.0, 1e3, 1e4]);
        assert_eq!([1.0, 100.0, 1e4].map(|value| axis.place(value)), [0.0, 50.0, 100.0]);
        assert_eq!(Logarithmic::around(std::iter::empty(), 1.0).decades(), [1.0, 10.0]);
    }
}
