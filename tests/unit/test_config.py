"""The run config: what is accepted, and the one line that says what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rapo.config import RunConfig, describe_config, load_config
from rapo.errors import ConfigError

NUMBER_AS_PEOPLE_WRITE_IT = [
    ("1e-4", 0.0001),
    ("1.5E+2", 150.0),
    (".5e1", 5.0),
    ("2", 2.0),
    ("0.25", 0.25),
]


MODEL = "{url: 'http://h/v1', name: b}"
LLM_USERS = ("users.kind=llm", "users.files=[a]", "users.models=[a]", "teacher.replay=0")
LLM_JUDGE = ("judge.kind=llm", "judge.model=a")
OWN = ("users.kind=own:User", "judge.kind=contrast", "teacher.replay=0")
REPLAY = ("users.kind=replay", "users.files=[a]", "judge.kind=contrast", "teacher.replay=0")


def problem(*overrides: str, text: str | None = None, tmp_path=None) -> str:
    path = None
    if text is not None:
        path = tmp_path / "run.yaml"
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def test_without_a_file_and_overrides_everything_is_default():
    assert load_config(None, []) == RunConfig()


@pytest.mark.parametrize(("text", "value"), NUMBER_AS_PEOPLE_WRITE_IT)
def test_numbers_in_overrides_and_files(text, value, tmp_path):
    (tmp_path / "a.yaml").write_text(f"update:\n  lr: {text}\n")
    assert load_config(None, [f"update.lr={text}"]).update.lr == value
    assert load_config(tmp_path / "a.yaml").update.lr == value


def test_overrides_win_over_the_file_and_the_last_one_over_the_others(tmp_path):
    (tmp_path / "a.yaml").write_text("update: {lr: 0.5, kl: 0.25}\nplay:\n")
    config = load_config(tmp_path / "a.yaml", ["update.lr=0.1", "update.lr=0.2", "play.turns=5"])
    assert (config.update.lr, config.update.kl, config.play.turns) == (0.2, 0.25, 5)


def test_lists_null_and_text():
    config = load_config(
        None,
        [
            "users.kind=replay",
            "judge.kind=contrast",
            "teacher.replay=0",
            "users.files=[a.jsonl, b/c.jsonl]",
            "train.max_minutes=",
            "run.dir=2026-01-01",
            "policy.system_prompt='be kind: always'",
        ],
    )
    assert [str(path) for path in config.users.files] == ["a.jsonl", "b/c.jsonl"]
    assert config.train.max_minutes is None
    assert str(config.run.dir) == "2026-01-01"
    assert config.policy.system_prompt == "be kind: always"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("correct.below=2", "correct.below is not valid; got 2; expected a number between 0 and 1"),
        ("teacher.kind=emma", "teacher.kind is not valid; got emma; expected one of: ema, frozen, live"),
        ("train.steps=0", "train.steps is not valid; got 0; expected a whole number >= 1"),
        ("train.steps=2.0", "train.steps is not valid; got 2.0; expected a whole number >= 1"),
        ("train.steps=true", "train.steps is not valid; got true; expected a whole number >= 1"),
        ("branch.candidates=1", "branch.candidates is not valid; got 1; expected a whole number >= 2"),
        ("update.lr=abc", "update.lr is not valid; got abc; expected a number > 0"),
        ("update.lr=", "update.lr is not valid; got null; expected a number > 0"),
        ("update.lr=.nan", "update.lr is not valid; got nan; expected a number > 0"),
        ("update.kl=.inf", "update.kl is not valid; got inf; expected a number >= 0"),
        ("gate.enabled=1", "gate.enabled is not valid; got 1; expected true or false"),
        ("users.files=a.jsonl", "users.files is not valid; got a.jsonl; expected a list, each item a path"),
        ("users.files=[3]", "users.files is not valid; got 3; expected a list, each item a path"),
        (
            "eval.populations=[]",
            "eval.populations is not valid; got []; expected a list of length >= 1, each item one of:",
        ),
        ("train.max_minutes=x", "train.max_minutes is not valid; got x; expected a number > 0 or null"),
        ("sft.warmup=1", "sft.warmup is not valid; got 1; expected a number >= 0 and < 1"),
        ("update.lr", "override is not valid; got update.lr; expected section.key=value, such as update.lr=1e-3"),
        ("update=3", "override is not valid; got update=3; expected section.key=value, such as update.lr=1e-3"),
        ("policy.system_prompt=[", "value of policy.system_prompt is not YAML; got [; put text in quotes"),
        ("lr=1", "unknown key lr; did you mean sft.lr or update.lr?"),
        ("updates.lr=1", "unknown key updates.lr; did you mean update.lr?"),
        ("update.clip_hihg=1", "unknown key update.clip_hihg; did you mean update.clip_high?"),
        ("play.candidates=4", "unknown key play.candidates; did you mean branch.candidates?"),
        ("branch.zzz=4", "unknown key branch.zzz; expected one of: branch.candidates, branch.temperature"),
        ("run.seed=-1", "run.seed is not valid; got -1; expected a whole number >= 0 and < 9223372036854775808"),
        ("run.seed=9223372036854775808", "run.seed is not valid; got 9223372036854775808; expected a whole number"),
        ("run.seed=99999999999999999999999", "run.seed is not valid; got 99999999999999999999999; expected"),
        ("models.gpt-4.1.timeout=3", "unknown key models.gpt-4.1.timeout; expected models.NAME.KEY, without a dot"),
        (
            "users.kind=a-b:C",
            "users.kind is not valid; got a-b:C; expected one of: support, bargaining, replay, llm or pack",
        ),
    ],
)
def test_a_wrong_override_is_one_plain_line(override, message):
    assert problem(override).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("update:\n  lr: 1\n  lr: 2\n", "line 3 of FILE is not valid YAML; got key lr given twice"),
        ("a: 1\nb: c: d\n", "line 2 of FILE is not valid YAML; got mapping values are not allowed here"),
        ("- 1\n", "config file FILE is no mapping; got [1]; expected sections such as `update:`"),
        ("update: 3\n", "update is not valid; got 3; expected a mapping of its keys"),
        ("updte: {lr: 1}\n", "unknown key updte; did you mean update?"),
        ("update: {clip: {low: 1}}\n", "unknown key update.clip; did you mean update.clip_low?"),
        ("lr: 1\n", "unknown key lr; did you mean sft.lr or update.lr?"),
        ("1: 2\n", "unknown key 1; expected one of: run, policy, lora"),
        ("run: {seed: !!int abc}\n", "FILE is not valid YAML; got invalid literal for int()"),
        ("run: {seed: !!python/name:os.system x}\n", "line 1 of FILE is not valid YAML; got could not determine"),
    ],
)
def test_a_wrong_file_is_one_plain_line(text, message, tmp_path):
    assert problem(text=text, tmp_path=tmp_path).startswith(message)


def test_the_largest_seed():
    assert load_config(None, [f"run.seed={2**63 - 1}"]).run.seed == 2**63 - 1


@pytest.mark.parametrize(
    "key", ["sk-proj-SECRET", "hf_aSECRET", "sk.SECRET", "1SECRET", "SECRET KEY", "[SECRET]", "{SECRET: 1}", "ÄSECRET"]
)
def test_a_key_typed_where_its_variable_belongs_is_not_shown(key, tmp_path):
    message = problem(text=f"models: {{a: {{url: 'http://h/v1', name: b, key_env: {key}}}}}", tmp_path=tmp_path)
    assert message == "models.a.key_env is not valid; expected the name of a variable, in capitals or null"


@pytest.mark.parametrize("name", ["API_KEY", "_K1", "null"])
def test_the_name_of_a_variable(name, tmp_path):
    (tmp_path / "a.yaml").write_text(f"models: {{a: {{url: 'http://h/v1', name: b, key_env: {name}}}}}")
    assert load_config(tmp_path / "a.yaml").models["a"].key_env == (None if name == "null" else name)


def test_a_model_with_a_dot_in_its_name(tmp_path):
    told = "models.gpt-4.1 has a dot in its name, which no override could reach; expected models.gpt-4-1, and what"
    assert problem(text=f"models: {{gpt-4.1: {MODEL}}}", tmp_path=tmp_path).startswith(told)


def test_a_section_that_is_no_mapping_stays_wrong_when_overridden(tmp_path):
    assert problem("update.lr=1", text="update: 3", tmp_path=tmp_path).startswith("update is not valid; got 3")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read; got No such file"):
        load_config(tmp_path / "nowhere.yaml")
    (tmp_path / "a.yaml").write_bytes(b"run: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text; got a bad byte at 5"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["users.kind=replay"], "users.kind=replay has no users.files"),
        (["users.files=[a]"], "users.files is given; expected users.kind=replay or llm with it"),
        (
            ["users.kind=replay", "users.files=[a]", "judge.kind=contrast"],
            "teacher.replay has no examples for replayed users",
        ),
        (["users.kind=replay", "users.files=[a]"], "judge.kind=support cannot judge replayed users"),
        # Rotary embeddings turn pairs: 100 / 4 heads = 25 numbers per head is odd.
        (["policy.hidden=100"], "policy.hidden=100; expected a multiple of twice policy.heads"),
        (["policy.max_tokens=768"], "policy.max_tokens=768; expected less than max_context"),
        (["update.macro=0", "update.micro=0"], "update.macro and update.micro are both 0"),
        (["correct.below=0"], "correct.below=0 leaves update.along=corrections empty"),
        # 16 dialogues x 3 turns x 0.02 = 0.96 turns.
        (["select.share=0.02"], "select.share=0.02; expected a share that keeps a turn"),
        (["lora.rank=8"], "lora.rank=8 freezes a model, and there is none in policy.path; expected one there"),
        (["run.autocast=true", "run.dtype=bfloat16"], "run.autocast=true changes nothing where run.dtype=bfloat16"),
    ],
)
def test_keys_that_contradict_each_other(overrides, message):
    assert problem(*overrides).startswith(message)


@pytest.mark.parametrize(
    "overrides",
    [
        ["policy.path=some/model", "policy.hidden=100"],
        ["correct.below=0", "update.along=own"],
        ["correct.below=0", "update.micro=0"],
        ["select.share=0.021"],  # 1.008 turns
        ["run.autocast=true"],
        ["run.autocast=true", "run.dtype=bfloat16", "policy.path=a", "lora.rank=8"],
        ["users.kind=replay", "users.files=[a]", "judge.kind=contrast", "teacher.replay=0"],
    ],
)
def test_neighbours_of_the_contradictions_are_fine(overrides):
    load_config(None, overrides)


def test_without_peft_an_adapter_is_refused_before_anything_loads(monkeypatch):
    monkeypatch.setattr("rapo.config.contradictions.find_spec", lambda name: None)
    told = "lora.rank=8 needs the extra lora; expected it to be installed: pip install 'rapo-rl[lora]'"
    assert problem("policy.path=a", "lora.rank=8") == told
    load_config(None, ["policy.path=a"])


def test_a_judge_that_lets_echoes_speak_needs_them():
    told = "judge.sees_echoes=false leaves judge.kind=contrast nothing to read"
    assert problem(*REPLAY, "judge.sees_echoes=false").startswith(told)


@pytest.mark.parametrize("judge", ["support", "bargaining"])
def test_own_users_get_no_judge_of_another_world(judge):
    message = problem("users.kind=own:User", "teacher.replay=0", f"judge.kind={judge}")
    assert message == (
        f"judge.kind={judge} cannot judge own:User users; expected judge.kind=contrast, llm or a class of yours"
    )


# World, what asks a language model about its talks, the domain that does not fit and the one that does.
WRONG_DOMAINS = [
    ("support", LLM_JUDGE, "negotiation", "support"),
    ("bargaining", LLM_JUDGE, "support", "negotiation"),
    ("support", ("eval.judge=a",), "negotiation", "support"),
    ("bargaining", ("judge.kind=bargaining", "eval.judge=a"), "support", "negotiation"),
]


@pytest.mark.parametrize(("world", "judge", "wrong", "right"), WRONG_DOMAINS)
def test_a_language_model_judges_an_embedded_world_by_its_own_prompts(world, judge, wrong, right, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"models: {{a: {MODEL}}}")
    given = [f"users.kind={world}", *judge]
    with pytest.raises(ConfigError, match=f"would have a .* judge {world} users by .*; expected users.domain={right}"):
        load_config(path, [*given, f"users.domain={wrong}"])
    assert load_config(path, [*given, f"users.domain={right}"]).users.domain == right


def test_three_roles_play_users_in_support_only(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"models: {{a: {MODEL}}}")
    given = [*LLM_USERS, *LLM_JUDGE, "users.mode=three_roles"]
    with pytest.raises(
        ConfigError, match=r"three_roles has no prompts for users\.domain=negotiation; expected .*support"
    ):
        load_config(path, [*given, "users.domain=negotiation"])
    assert load_config(path, given).users.mode == "three_roles"


# A key that decides nothing: where it is met, and where it is right.
IDLE = {
    "users.files=[a]": (OWN, REPLAY),
    "users.importer=m:f": (OWN, REPLAY),
    "users.options={a: 1}": ((), OWN),
    "users.neighbours=3": (OWN, REPLAY),
    "users.max_opening=3": ((*LLM_USERS, *LLM_JUDGE), REPLAY),
    "users.models=[a]": ((), (*LLM_USERS, *LLM_JUDGE)),
    "users.mode=one_call": (REPLAY, (*LLM_USERS, *LLM_JUDGE)),
    "users.personas=false": (OWN, (*LLM_USERS, *LLM_JUDGE)),
    "eval.models=[a]": ((), (*LLM_USERS, *LLM_JUDGE)),
    "judge.model=a": ((), LLM_JUDGE),
    "judge.tie=0.1": ((), ("judge.kind=contrast",)),
    "judge.options={a: 1}": ((), ("judge.kind=own:Judge",)),
    "sft.importer=m:f": ((), ("sft.files=[a]",)),
    "lora.alpha=3": (("policy.path=a",), ("policy.path=a", "lora.rank=8")),
    "lora.targets=[q_proj]": (("policy.path=a",), ("policy.path=a", "lora.rank=8")),
}


@pytest.mark.parametrize("override", IDLE)
def test_a_key_that_decides_nothing_is_a_slip(override, tmp_path):
    where_idle, where_right = IDLE[override]
    path, key = tmp_path / "run.yaml", override.partition("=")[0]
    path.write_text(f"models: {{a: {MODEL}}}")
    with pytest.raises(ConfigError, match=f"^{key} is given; expected .* with it, or no {key}$"):
        load_config(path, [*where_idle, override])
    config = load_config(path, [*where_right, override])
    path.write_text(config.to_yaml())
    assert load_config(path) == config


@settings(max_examples=60, deadline=None, phases=[Phase.generate])
@given(
    prompt=st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["1e-4", "null", "2026-01-01", "a\x85b"])
    ),
    lr=st.floats(min_value=1e-300, allow_infinity=False, allow_nan=False),
    minutes=st.none() | st.integers(1, 10**6),
)
def test_the_resolved_config_reads_back_equal(prompt, lr, minutes, tmp_path_factory):
    config = RunConfig.model_validate(
        {"policy": {"system_prompt": prompt}, "update": {"lr": lr}, "train": {"max_minutes": minutes}}
    )
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config


def test_every_key_is_described_and_sections_stay_small():
    rows = describe_config()
    assert all(row.description and "\n" not in row.description for row in rows)
    sections = [row.key.split(".")[0] for row in rows]
    assert list(dict.fromkeys(sections)) == list(RunConfig.model_fields)
    assert max(map(sections.count, sections)) <= 12


def test_rows_say_type_range_and_default():
    rows = {row.key: row[1:3] for row in describe_config()}
    assert rows["update.clip_low"] == ("a number > 0 and <= 1", "0.2")
    assert rows["eval.populations"][1] == "[familiar, held_out]"
    assert rows["policy.path"] == ("text or null", "null")
    assert rows["run.dir"] == ("a path", "runs/run")


def test_the_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().update.lr = 1.0


def test_loading_a_config_loads_no_torch():
    code = "import sys; from rapo.config import load_config; load_config(None, []); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
