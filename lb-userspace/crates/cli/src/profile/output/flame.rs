//! Flame graphs.

use std::io;

use hotlb_values::profile::{Profile, Sampled};
use inferno::flamegraph::{
    Options,
    color::{MultiPalette, Palette},
    from_lines,
};

use super::{super::diff::Diff, folded, how, missing, samples};

/// The graph of a profile.
pub(super) fn graph(profile: &Profile) -> io::Result<Vec<u8>> {
    let mut title = Vec::new();
    for sampled in &profile.generations {
        title.push(format!("{}: {}", sampled.generation, samples(sampled)));
    }
    let mut options = options(profile, &title.join("; "));
    // User code red and yellow, the kernel orange, inlined code aqua, JavaScript and Java green.
    options.colors = Palette::Multi(MultiPalette::Java);
    draw(options, &folded::lines(profile, &profile.generations))
}

/// What is other in `after`, which gives the widths: red is more CPU time than in `before`, blue is
/// less.
pub(super) fn difference(
    profile: &Profile,
    before: &Sampled,
    after: &Sampled,
    diff: &Diff,
) -> io::Result<Vec<u8>> {
    // Short: what is in the corners must stay readable.
    let title = format!(
        "{} -> {}, {}: {} and {} samples",
        before.generation,
        after.generation,
        diff.unit.name(),
        before.samples,
        after.samples
    );
    let mut options = options(profile, &title);
    options.subtitle = Some(format!(
        "{} and {}; {}",
        samples(before),
        samples(after),
        missing(profile)
    ));
    draw(
        options,
        &folded::compared(profile, before, after, diff.scale),
    )
}

fn options<'a>(profile: &Profile, title: &str) -> Options<'a> {
    let mut options = Options::default();
    options.title = format!("{} {title}, {}", profile.service, how(profile));
    options.subtitle = Some(missing(profile));
    "samples".clone_into(&mut options.count_name);
    options.deterministic = true;
    options.hash = true;
    options
}

fn draw(mut options: Options<'_>, lines: &[String]) -> io::Result<Vec<u8>> {
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::fixture::profile, Format, render},
        *,
    };

    #[test]
    fn the_title_says_what_it_is() {
        let profile = profile(&[&[("main;spin", 3)]]);
        let svg = String::from_utf8(graph(&profile).unwrap()).unwrap();
        assert!(
            svg.contains("web gen1: 3 samples of 3 expected, 99 Hz, 10.0 s"),
            "{svg}"
        );
        assert!(svg.contains("spin"));
    }

    #[test]
    fn a_difference_names_both() {
        let profile = profile(&[
            &[("main;spin", 30)],
            &[("main;spin", 60), ("main;work", 40)],
        ]);
        let svg = render(&profile, Format::Svg, 0).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.contains("gen1 -&gt; gen2"), "{svg}");
        assert!(svg.contains("100 samples of 100 expected"), "{svg}");
    }
}
