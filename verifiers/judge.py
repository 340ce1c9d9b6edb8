"""prompts"""
GRADE_PROMPT = "Grade the last step from 0 to 9 for correctness only. Reply with one digit."
GRADE_PREFIX = "Grade: "
