"""Parts of the breakers layer, each for any async function, with or without a runtime."""
