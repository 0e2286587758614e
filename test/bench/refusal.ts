// Why a bench was not begun, in a sentence for whoever started it: no stack trace says more.

export class Refusal extends Error {}
