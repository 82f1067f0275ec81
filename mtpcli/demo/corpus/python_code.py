"""Short Python functions: the `code` workload.

A prompt that names no argument gets the table's own argument name, so the answer is never a guess.
"""

from __future__ import annotations

from random import Random

from .exchange import Exchange

# ruff: noqa: E501 (one function per line)
# what it returns | function name | arguments | body
# K stands for a number, X for the first argument, ; for a new line.
_TABLE = """
the sum of a list|total|numbers|result = 0;for x in X:;    result += x;return result
the largest item of a list|largest|numbers|best = X[0];for x in X:;    if x > best:;        best = x;return best
the smallest item of a list|smallest|numbers|best = X[0];for x in X:;    if x < best:;        best = x;return best
the average of a list|average|numbers|return sum(X) / len(X)
the items of a list greater than K|greater_than_K|numbers|return [x for x in X if x > K]
the items of a list less than K|less_than_K|numbers|return [x for x in X if x < K]
the items of a list equal to K|equal_to_K|numbers|return [x for x in X if x == K]
the items of a list multiplied by K|times_K|numbers|return [x * K for x in X]
the items of a list plus K|plus_K|numbers|return [x + K for x in X]
the first K items of a list|first_K|items|return X[:K]
the last K items of a list|last_K|items|return X[-K:]
the even numbers of a list|evens|numbers|return [x for x in X if x % 2 == 0]
the odd numbers of a list|odds|numbers|return [x for x in X if x % 2 == 1]
the squares of a list|squares|numbers|return [x * x for x in X]
the positive numbers of a list|positives|numbers|return [x for x in X if x > 0]
the last item of a list|last_item|items|return X[-1]
the first item of a list|first_item|items|return X[0]
the length of a list|length|items|count = 0;for x in X:;    count += 1;return count
a sorted copy of a list|sorted_copy|items|return sorted(X)
a reversed copy of a list|reversed_copy|items|return X[::-1]
the items of a list without duplicates|unique|items|result = [];for x in X:;    if x not in result:;        result.append(x);return result
the count of each item in a list|count_items|items|counts = {};for x in X:;    counts[x] = counts.get(x, 0) + 1;return counts
the product of a list|product|numbers|result = 1;for x in X:;    result *= x;return result
the number of vowels in a string|count_vowels|text|count = 0;for c in X:;    if c in "aeiou":;        count += 1;return count
the reverse of a string|reverse|text|return X[::-1]
the number of words in a string|count_words|text|return len(X.split())
a string in upper case|upper|text|return X.upper()
a string in lower case|lower|text|return X.lower()
a string repeated K times|repeat_K|text|return X * K
the first letter of a string|first_letter|text|return X[0]
the longest word in a string|longest_word|text|best = "";for word in X.split():;    if len(word) > len(best):;        best = word;return best
a string without spaces|without_spaces|text|return X.replace(" ", "")
the factorial of a number|factorial|n|result = 1;for i in range(2, X + 1):;    result *= i;return result
the square of a number|square|x|return X * X
a number plus K|add_K|x|return X + K
a number minus K|minus_K|x|return X - K
a number times K|times_K|x|return X * K
the sum of two numbers|add|a, b|return a + b
the product of two numbers|multiply|a, b|return a * b
the difference of two numbers|difference|a, b|return a - b
the larger of two numbers|larger|a, b|if a > b:;    return a;return b
the smaller of two numbers|smaller|a, b|if a < b:;    return a;return b
the absolute value of a number|absolute|x|if X < 0:;    return -X;return X
the list of squares up to n|squares_up_to|n|return [i * i for i in range(1, X + 1)]
the multiples of K up to n|multiples_of_K|n|return [i for i in range(1, X + 1) if i % K == 0]
the n-th Fibonacci number|fibonacci|n|a, b = 0, 1;for i in range(X):;    a, b = b, a + b;return a
the sum of the numbers from 1 to n|sum_up_to|n|return X * (X + 1) // 2
whether a number is even|is_even|n|return X % 2 == 0
whether a number is odd|is_odd|n|return X % 2 == 1
whether a number is prime|is_prime|n|if X < 2:;    return False;for i in range(2, X):;    if X % i == 0:;        return False;return True
whether a number can be divided by K|divisible_by_K|n|return X % K == 0
whether a string is a palindrome|is_palindrome|text|return X == X[::-1]
whether a list is empty|is_empty|items|return len(X) == 0
whether a list contains K|contains_K|items|return K in X
"""
FUNCTIONS = [tuple(line.split("|")) for line in _TABLE.strip().splitlines()]
_LIST_NAMES = ["numbers", "values", "items", "data", "scores", "prices", "sizes"]
_TEXT_NAMES = ["text", "word", "name", "line", "sentence"]
_NUMBER_NAMES = ["n", "x", "number", "value"]


def _other_argument(r: Random, argument: str) -> str:
    for names in (_LIST_NAMES, _TEXT_NAMES, _NUMBER_NAMES):
        if argument in names:
            return r.choice(names)
    return argument


def python_code(r: Random) -> Exchange:
    what, name, argument, body = r.choice(FUNCTIONS)
    number = str(r.randint(2, 20))
    what = what.replace("K", number)
    name = name.replace("K", number)
    prompt = r.choice(
        [
            f"Write a Python function that returns {what}.",
            f"Python function for {what}, please.",
            f"Write a function called {name} that returns {what}.",
            f"Give me Python code that returns {what}.",
            f"How do I get {what} in Python?",
            f"I need a Python function that returns {what}.",
            f"Write Python code for {what}.",
            f"Code: {what}",
        ]
    )
    if r.random() < 0.35:
        argument = _other_argument(r, argument)
        prompt += f" Use the argument name {argument}." if "," not in argument else ""
    lines = [f"    {line}" for line in body.replace("X", argument).replace("K", number).split(";")]
    if r.random() < 0.25:
        prompt += " Add a docstring."
        lines.insert(0, f'    """Return {what}."""')
    answer = "```python\n" + "\n".join([f"def {name}({argument}):", *lines]) + "\n```"
    return Exchange(prompt, answer, f"The function takes {argument} and returns {what}.")
