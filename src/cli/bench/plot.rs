//! Latency by percentile, as a picture: the further to the right, the rarer.

use std::fmt::Write;

use super::{
    report::{Report, time},
    tally::Times,
};
use crate::cli::output::grouped;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
/// The frame of the curve.
const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 36.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = HEIGHT - 58.0;

/// Percentiles with a name on the axis: each tenth of what the one before leaves out.
const PERCENTILES: [(&str, f64); 8] = [
    ("0", 0.0),
    ("90", 1.0),
    ("99", 2.0),
    ("99.9", 3.0),
    ("99.99", 4.0),
    ("99.999", 5.0),
    ("99.9999", 6.0),
    ("99.99999", 7.0),
];
/// Percentiles with a dot and its time, by what they leave out: 1 in 2, 10, 100 and 1,000.
const MARKED: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.1), ("p99", 0.01), ("p99.9", 0.001)];
/// Points of the curve for each tenth.
const POINTS: usize = 60;

/// Room that the name of a dot takes.
const LABEL: f64 = 110.0;

/// Own colours on an own background, of which there is a dark kind for who prefers that.
const STYLE: &str = "\
.back{fill:#fff}.title{fill:#1b2733;font-weight:600}.text{fill:#51606f}.grid{stroke:#dfe5ea}\
.axis{stroke:#8796a5}.curve{stroke:#0b6bcb;fill:none}.dot{fill:#0b6bcb}.void{fill:#c62828;font-weight:700}\
@media(prefers-color-scheme:dark){.back{fill:#141a21}.title{fill:#e6edf3}.text{fill:#a3b1bf}\
.grid{stroke:#2a333d}.axis{stroke:#66748a}.curve{stroke:#6cb6ff}.dot{fill:#6cb6ff}.void{fill:#ff7b72}}";

/// The picture.
pub(super) fn svg(times: &Times, report: &Report) -> String {
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"13\" role=\"img\">\n\
         <title>Latency by percentile</title>\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n"
    );
    let heading = format!("Latency by percentile, {}", origin(report));
    text(&mut svg, "title", (LEFT, 32.0), "start", &heading);
    text(&mut svg, "text", (LEFT, 54.0), "start", &subtitle(report));
    if report.void {
        text(&mut svg, "void", (RIGHT, 32.0), "end", "VOID");
    }
    if times.0.is_empty() {
        let middle = (LEFT.midpoint(RIGHT), TOP.midpoint(BOTTOM));
        text(&mut svg, "text", middle, "middle", "nothing was delivered");
    } else {
        curve(&mut svg, times);
    }
    svg += "</svg>\n";
    svg
}

fn origin(report: &Report) -> &'static str {
    match report.load.rate {
        Some(_) => "from the time each publication was due",
        None => "from the send (closed loop)",
    }
}

fn subtitle(report: &Report) -> String {
    let load = &report.load;
    let rate = report.deliveries.per_second.unwrap_or(0.0).round() as u64;
    format!(
        "{} deliveries/s of {} bytes to {} clients with {} of {} channels over {}",
        grouped(rate),
        load.size,
        grouped(load.clients as u64),
        load.subscriptions,
        grouped(load.channels as u64),
        load.transport,
    )
}

/// Where things are in the frame.
struct Scale {
    /// How many tenths the axis to the right has.
    tenths: f64,
    /// Ends of the upward axis: powers of ten, in microseconds.
    low: f64,
    high: f64,
}

impl Scale {
    fn of(times: &Times) -> Self {
        let all = &times.0;
        // Beyond one in `len` there is nothing to see.
        let tenths = (all.len() as f64).log10().clamp(1.0, 7.0);
        let (min, max) = (us(all.min()), us(all.max()));
        let (low, mut high) = (step_below(min), step_above(max));
        if high <= low {
            high = low * 2.0;
        }
        Self {
            tenths,
            low: low.log10(),
            high: high.log10(),
        }
    }

    /// `tenths` is how often a tenth was taken of what is left: 2 is the 99th percentile.
    fn x(&self, tenths: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (tenths / self.tenths).min(1.0)
    }

    fn y(&self, us: f64) -> f64 {
        let part = (us.log10() - self.low) / (self.high - self.low);
        BOTTOM - (BOTTOM - TOP) * part.clamp(0.0, 1.0)
    }
}

fn curve(svg: &mut String, times: &Times) {
    let scale = Scale::of(times);
    for us in steps(scale.low, scale.high) {
        let y = scale.y(us);
        line(svg, "grid", (LEFT, y), (RIGHT, y));
        text(svg, "text", (LEFT - 10.0, y + 4.0), "end", &step(us));
    }
    for (name, tenths) in PERCENTILES {
        if tenths > scale.tenths {
            break;
        }
        let x = scale.x(tenths);
        line(svg, "grid", (x, TOP), (x, BOTTOM));
        text(svg, "text", (x, BOTTOM + 20.0), "middle", name);
    }
    line(svg, "axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    line(svg, "axis", (LEFT, TOP), (LEFT, BOTTOM));
    let middle = (LEFT.midpoint(RIGHT), BOTTOM + 42.0);
    text(svg, "text", middle, "middle", "percentile");

    let at = |left_out: f64| us(times.0.value_at_quantile(1.0 - left_out));
    let points = (scale.tenths * POINTS as f64) as usize;
    let mut path = String::new();
    for point in 0..=points {
        let tenths = scale.tenths * point as f64 / points as f64;
        let command = if point == 0 { 'M' } else { 'L' };
        let (x, y) = (scale.x(tenths), scale.y(at(10_f64.powf(-tenths))));
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    let _ = writeln!(
        svg,
        "<path class=\"curve\" stroke-width=\"2.5\" stroke-linejoin=\"round\" d=\"{path}\"/>"
    );
    for (name, left_out) in MARKED {
        let tenths = -left_out.log10();
        if tenths > scale.tenths {
            break;
        }
        let us = at(left_out);
        let (x, y) = (scale.x(tenths), scale.y(us));
        let _ = writeln!(
            svg,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>"
        );
        // Below a curve that rises there is room, and to the right of the dot except at the edge.
        let label = format!("{name} {}", time(us));
        let below = (y + 21.0).min(BOTTOM - 7.0);
        if x + LABEL < RIGHT {
            text(svg, "title", (x + 6.0, below), "start", &label);
        } else {
            text(svg, "title", (RIGHT, below), "end", &label);
        }
    }
}

/// Steps 1, 2 and 5 of each power of ten, in microseconds, between two exponents.
fn steps(low: f64, high: f64) -> impl Iterator<Item = f64> {
    // Rounding must not take the ends away.
    let within = move |us: &f64| (low - 1e-9..=high + 1e-9).contains(&us.log10());
    (low.floor() as i32..=high.ceil() as i32)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
        .filter(within)
}

fn step_below(us: f64) -> f64 {
    let power = us.log10().floor();
    steps(power, us.log10()).last().unwrap_or(us)
}

fn step_above(us: f64) -> f64 {
    let exponent = us.log10();
    steps(exponent, exponent.ceil() + 1.0).next().unwrap_or(us)
}

/// A step of the axis: 1, 2 or 5 and zeros, or below a microsecond a fraction.
fn step(us: f64) -> String {
    let (number, unit) = match us * 1.000_001 {
        near if near < 1000.0 => (us, "µs"),
        near if near < 1_000_000.0 => (us / 1000.0, "ms"),
        _ => (us / 1_000_000.0, "s"),
    };
    format!("{} {unit}", (number * 1000.0).round() / 1000.0)
}

fn us(nanoseconds: u64) -> f64 {
    nanoseconds.max(1) as f64 / 1000.0
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

/// None of what is written here has a character that XML would mind.
fn text(svg: &mut String, class: &str, at: (f64, f64), anchor: &str, text: &str) {
    let (x, y) = at;
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_steps_around_what_was_seen() {
        for (us, below, above) in [
            (120.0, 100.0, 200.0),
            (2.0, 2.0, 2.0),
            (0.7, 0.5, 1.0),
            (9_999.0, 5_000.0, 10_000.0),
        ] {
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
            assert!(close(step_below(us), below), "{us}: {}", step_below(us));
            assert!(close(step_above(us), above), "{us}: {}", step_above(us));
        }
    }

    #[test]
    fn steps_are_round() {
        let all: Vec<_> = steps(-1.0, 3.7).map(step).collect();
        assert_eq!(all.len(), 15);
        assert_eq!(&all[..4], ["0.1 µs", "0.2 µs", "0.5 µs", "1 µs"]);
        assert_eq!(&all[11..], ["500 µs", "1 ms", "2 ms", "5 ms"]);
    }

    #[test]
    fn one_delivery_has_a_scale_too() {
        let mut times = Times::new();
        times.record(100_000);
        let scale = Scale::of(&times);
        assert!(scale.high > scale.low && scale.y(100.0).is_finite());
    }
}
