"""What shells complete of the commands, asked of the shells."""

import shlex
import shutil

import pytest
from shells import shell

from mempattern.cli import completion
from mempattern.cli.main import COMMANDS


def completed(words):
    """What bash offers for the last of the words."""
    *_, last = words
    program = f"""
        eval "$(mempattern completion bash)"
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
        COMP_LINE={shlex.quote(" ".join(words))}; COMP_POINT=${{#COMP_LINE}}
        spec=$(complete -p {words[0]}); [[ $spec =~ -F\\ ([^ ]+) ]] && "${{BASH_REMATCH[1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = shell(program)
    assert done.stderr == "", done.stderr
    return {word.strip() for word in done.stdout.splitlines() if word.startswith(last)} - {""}


def test_bash_completes():
    assert completed(["mempattern", ""]) >= set(COMMANDS)
    assert completed(["mempattern", "re"]) == {"report", "replay"}
    assert completed(["mempattern", "report", "--p"]) == {"--plot", "--parquet", "--perfetto"}
    assert completed(["mempattern", "predict", "x", "--accel", ""]) >= {"kvm", "tcg"}
    assert completed(["mempattern", "replay", "x", "--policy", "kube"]) == {
        "kubevirt-legacy", "kubevirt-postcopy", "kubevirt-stall", "kubevirt-ramp"
    }  # fmt: skip
    assert completed(["mempattern", "migrate", "--policy", "be"]) == {"best"}
    assert completed(["mempattern-trace", "--source", "soft"]) == {"soft-dirty"}


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"apt-get install {program}")


@needs("fish")
def test_fish_completes(tmp_path):
    script = shell("mempattern completion fish").stdout
    (tmp_path / "c.fish").write_text(script)
    done = shell(
        f'fish --no-config -c \'source {tmp_path}/c.fish; complete -C "mempattern re"; '
        'complete -C "mempattern report --p"; complete -C "mempattern-trace --so"\'',
        env={"HOME": str(tmp_path)},
    )
    words = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert {"report", "replay", "--plot", "--parquet", "--perfetto", "--source"} <= set(words)


@needs("zsh")
def test_zsh_takes_it(tmp_path):
    (tmp_path / "c.zsh").write_text(shell("mempattern completion zsh").stdout)
    done = shell(
        f'zsh -fc \'autoload -Uz compinit; compinit -D -u; eval "$(<{tmp_path}/c.zsh)"; '
        "print $_comps[mempattern] $_comps[mempattern-trace]; "
        "whence -w $_comps[mempattern] $_comps[mempattern-trace]'"
    )
    assert done.stderr == ""
    first, *kinds = done.stdout.splitlines()
    assert len(first.split()) == 2
    assert len(kinds) == 2
    assert all(kind.endswith(": function") for kind in kinds)


def test_every_file_is_completed_as_one():
    for program in completion.programs():
        text = completion.script(program, "bash")
        assert "_shtab_compgen_files" in text or "compgen -f" in text
