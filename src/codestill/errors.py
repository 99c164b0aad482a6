"""Every error that codestill raises on purpose.

    CodestillError
    ├── UserError                 exit code 2: the request cannot be met as it stands
    │   ├── ConfigError           a config value, key or file
    │   ├── TaskError             a task file, row or field
    │   ├── ModelError            a student or teacher cannot be built or loaded
    │   │   ├── VocabularyError   teacher and student do not share a vocabulary
    │   │   └── LogitsError       a teacher that has no logits, where logits are needed
    │   ├── RunError              a run directory
    │   │   ├── ConfigMismatch    the directory was made with another config
    │   │   └── StageMismatch     a stage's records were made from other items
    │   └── SandboxUnavailable    this machine lacks an isolation layer
    └── Failure                   exit code 1: something broke while doing what was asked
        ├── SandboxError          the sandbox itself broke (never a wrong answer)
        ├── GateError             an evaluation whose gates fail: its score cannot be believed
        ├── TrainingError         a loss that is not finite
        ├── ServerBusy            a server that takes no further request now
        ├── TeacherError          a teacher that cannot be reached, or whose answers are unusable
        └── BudgetError           a budget that another call could exceed

A message says what happened, with the values, and what to do next.
"""


class CodestillError(Exception):
    """Base of every deliberate error; ``next_step`` says what the reader can do."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  {self.next_step}"


class UserError(CodestillError):
    """The request cannot be met as it stands; the user can fix it."""

    exit_code = 2


class ConfigError(UserError):
    """A config key, value or file is not usable."""


class TaskError(UserError):
    """A task file, row or field is not usable."""


class ModelError(UserError):
    """A student or teacher cannot be built or loaded."""


class VocabularyError(ModelError):
    """Teacher and student do not share a vocabulary."""


class LogitsError(ModelError):
    """Logits are needed from a teacher that has none."""


class RunError(UserError):
    """A run directory is not usable."""


class ConfigMismatch(RunError):
    """The run directory was made with another config."""


class StageMismatch(RunError):
    """The records of a stage were made from other items."""


class SandboxUnavailable(UserError):
    """This machine lacks an isolation layer that the sandbox requires."""


class Failure(CodestillError):
    """Something broke while doing what was asked."""


class SandboxError(Failure):
    """The sandbox itself broke; never to be taken for a wrong answer."""


class GateError(Failure):
    """The evaluation's own gates fail, so its score cannot be believed."""


class TrainingError(Failure):
    """The training loss is not finite."""


class ExportError(Failure):
    """An artefact is not the student that it was made of."""


class PublishError(Failure):
    """A model hub cannot be reached, or refuses."""


class ServerBusy(Failure):
    """A server takes no further request now."""


class TeacherError(Failure):
    """A teacher cannot be reached, or its answers are unusable."""


class BudgetError(Failure):
    """Another call to the teacher could exceed the budget."""
