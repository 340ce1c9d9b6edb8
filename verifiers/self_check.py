"""prompts"""
SELF_CHECK_PROMPT = "Is the answer above right? Reply True or False."
