//! Completion scripts: clap's, without the verbs that are for hotlb itself, and for bash with the
//! generations there are.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// After clap's own words: the names of generations, where one is wanted.
const GENERATIONS: &str = r#"
_hotlb() {
    _hotlb_words "$@"
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    case "$before" in
        --to|promote|stop|profile) ;;
        *) return ;;
    esac
    local names
    names=$(hotlb status 2>/dev/null | awk '/^  [A-Za-z0-9]/ && $1 != "GENERATION" { print $1 }')
    COMPREPLY+=($(compgen -W "$names" -- "$current"))
}
"#;

/// The script for this shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut public(&Cli::command()), "hotlb", &mut script);
    if shell != Shell::Bash {
        return script;
    }
    let words = String::from_utf8_lossy(&script).into_owned();
    match words.split_once("_hotlb() {") {
        Some((before, after)) => {
            let (function, rest) = after.split_once("\n}\n").unwrap_or((after, ""));
            format!("{before}_hotlb_words() {{{function}\n}}\n{GENERATIONS}{rest}").into_bytes()
        }
        None => script,
    }
}

/// The command line without hidden verbs, which hotlb says to itself.
fn public(all: &Command) -> Command {
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("hotlb")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(verbs.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shell_is_offered_a_verb_of_hotlbs_own() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(script.contains("rollback"), "{shell}");
            // clap names a function of `exec` hotlb__exec.
            let is_of_words = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            let words = script.split(|c| !is_of_words(c));
            let hidden = ["__keep", "__exec", "__hook", "__profile"];
            let offered: Vec<&str> = words.filter(|word| hidden.contains(word)).collect();
            assert!(offered.is_empty(), "{shell} {offered:?}");
        }
    }

    #[test]
    fn bash_completes_by_the_function_that_knows_generations() {
        let script = String::from_utf8(completions(Shell::Bash)).unwrap();
        assert_eq!(script.matches("\n_hotlb() {").count(), 1);
        let own = script.find("\n_hotlb() {").unwrap();
        assert!(script.find("_hotlb_words() {").unwrap() < own);
        assert!(script.rfind("complete -F _hotlb ").unwrap() > own);
    }
}
