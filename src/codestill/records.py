"""Bases of settings and records, estimates with their uncertainty, and parts of results; ``codestill.types``
has them, too."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

STEADY = 0.15
"""Distance of the quartiles of a time, as a share of its median, up to which it says something."""


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown key; a field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may hold credentials
    )


GROWS = "grows with the number of tasks"
"""Metadata of such a setting (``Annotated[int, GROWS]``): a trial on fewer tasks has less of it."""


class Record(BaseModel):
    """Base of every record: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Record):
    """An estimate with its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def percent(self, sign: str = "%") -> str:
        """``12.3% [9.8, 15.1]``; ``sign`` follows the estimate."""
        return f"{100 * self.mean:.1f}{sign} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


class PairedDifference(Record):
    """``a`` minus ``b``, paired over tasks and seeds."""

    interval: Interval
    """95% percentile bootstrap over seeds and tasks together."""
    p: float | None = None
    """Two-sided p-value of no difference, from the same draws; None in files of earlier versions."""
    by_seed: tuple[float, ...] = ()
    """The difference of each seed, in the seeds' order."""
    t_interval: Interval | None = None
    """95% t interval over ``by_seed``, where there are two to four seeds that do not all agree."""
    t_p: float | None = None
    """Its two-sided p-value."""

    @property
    def excludes_zero(self) -> bool:
        return self.interval.excludes_zero


class Difference(PairedDifference):
    """The paired difference of two arms of a comparison."""

    a: str
    b: str
    metric: str
    pairs: int


class ChatForm(Record):
    """The chat template through which a model was asked."""

    template: str
    """Fingerprint of the template; `server` where the server applies one of its own."""
    frame: str = ""
    """The template around a message, with ``{message}`` in its place, up to where the answer begins."""
    system_prompt: str | None = None
    """The system prompt, also one that the template puts there by itself."""


class Listed(Record):
    """The tokens of an answer, and at each position the likeliest with their log-probabilities, as a server
    gave them (:class:`codestill.teachers.listing.Listing`)."""

    tokens: tuple[int, ...] | tuple[str, ...]
    """Every token that occurs, once: ids, or texts as hexadecimal bytes."""
    positions: NonNegativeInt
    """Generated tokens."""
    data: str
    """Base64 of the zlib stream of three little-endian arrays: entries of each position (uint16), their
    places in ``tokens`` (uint32), their log-probabilities (float32). A position's first entry is the token
    that was generated."""


class Gates(Record):
    """Whether the evaluation itself can be believed: tasks passed by each known answer."""

    tasks: int
    reference: int
    empty: int
    pass_body: int
    closed: int = Field(default=0, exclude_if=lambda value: not value)
    """Gaps that nothing need fill: a model that writes nothing would pass them."""
    broken: tuple[str, ...] = ()
    """Task ids whose published reference fails its own tests."""

    def failure(self) -> str | None:
        """Why the gates do not hold, or None when they do."""
        if self.reference + len(self.broken) < self.tasks or self.reference == 0:
            return f"the reference solutions pass {self.reference}/{self.tasks}"
        if self.empty:
            return f"an empty completion passes {self.empty}/{self.tasks}"
        if self.pass_body:
            return f"a bare `pass` body passes {self.pass_body}/{self.tasks}"
        return None


class ModelProfile(Record):
    """What a model costs to deploy."""

    parameters: int
    file_megabytes: float
    """Size of the saved weights, in MB (10^6 bytes)."""
    prompt_milliseconds: float
    """Median time to prefill the profile's prompt."""
    token_milliseconds: float
    """Median time per generated token, batch 1."""
    token_quartiles: tuple[float, float] | None = None
    """Lower and upper quartile of that time over the repeats; None in files of earlier versions."""
    tokens_per_second: float
    peak_memory_megabytes: float
    prompt_tokens: int
    new_tokens: int
    repeats: int
    device: str
    dtype: str
    threads: int
    measured: int = 1
    """How often the repeats were made, for the calmest of them: more than once where the machine was busy."""

    @property
    def steady(self) -> bool:
        """Whether the time per token is more than noise: its quartiles lie within :data:`STEADY` of it."""
        return self.token_quartiles is not None and not self.noisy

    @property
    def noisy(self) -> bool:
        """Whether they are known to lie further apart."""
        low, high = self.token_quartiles or (0.0, 0.0)
        return high - low > STEADY * self.token_milliseconds


class DraftLength(Record):
    """Speculative decoding with drafts of one length."""

    length: int
    """Tokens drafted for a pass of the target (gamma)."""
    independent: float
    """Expected tokens per target pass if each were accepted with the mean acceptance rate, whatever happened
    to the others (Leviathan et al. 2023, eq. 1)."""
    expected: Interval
    """Expected tokens per target pass over the measured texts, with their dependence."""


class DraftRun(Record):
    """Speculative decoding as it was run, beside what was expected of it on the same tasks."""

    length: int
    tasks: int
    passes: int
    tokens: Interval
    """Tokens per target pass."""
    expected: Interval
    """The same, expected over these tasks' measured texts."""
    difference: Interval
    """Run minus expected, paired over tasks."""


class DraftTimes(Record):
    """Times of passes over one text, medians of repeats in turn in one process, in milliseconds."""

    draft: float
    """Of the draft, over one token."""
    target: tuple[float, ...]
    """Of the target, over 1, 2, ... tokens: over one more than are drafted."""
    device: str
    threads: int
    run_length: int | None = None
    """Length of the drafts with which ``run_speedup`` was measured; None where it was not."""
    run_speedup: float | None = None
    """Time per token of the target alone over that of speculative decoding, both as they were run."""

    @property
    def cost(self) -> float:
        """Time of the draft's pass over the target's (c of Leviathan et al.)."""
        return self.draft / self.target[0]


class Draft(Record):
    """How well a model drafts for a larger one, its target, in speculative decoding."""

    target: str
    dtype: str
    """Type of the target's weights in memory."""
    temperature: float
    """Of both; 0 is greedy."""
    texts: int
    """Texts of the target that were measured, in its own samples of the tasks' answers."""
    tokens: int
    acceptance: Interval
    """Probability that a drafted token is accepted, the mean over the texts' tokens: 1 - total variation."""
    acceptance_per_task: dict[str, float]
    lengths: tuple[DraftLength, ...]
    """By their length, from 1."""
    run: DraftRun | None = None
    times: DraftTimes | None = None
    prompts: str = ""
    """Version of the prompts that the target was asked with."""
    chat: ChatForm | None = None

    def speedup(self, at: DraftLength) -> float | None:
        """Expected time of the target alone over that of speculative decoding with drafts of this length,
        where a pass over them takes the target as long as over one token (Leviathan et al., theorem 3.8, with
        the expected tokens of these texts)."""
        return at.expected.mean / (at.length * self.times.cost + 1) if self.times else None

    def speedup_here(self, at: DraftLength) -> float | None:
        """The same with the time that the target's pass was measured to take."""
        if self.times is None:
            return None
        taken = at.length * self.times.draft + self.times.target[at.length]
        return at.expected.mean * self.times.target[0] / taken

    @property
    def best(self) -> DraftLength | None:
        """The length that is fastest here; None where nothing was timed."""
        return max(self.lengths, key=lambda at: self.speedup_here(at) or 0.0) if self.times else None
