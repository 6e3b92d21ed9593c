"""What moves an answer, and where it turns: the same search with one input varied.

varied         the inputs that may be varied
answers        answers to many questions that differ a little from one
mixed_answers  those whose plans may have mixed pools
sensitivity    which inputs move the answer, and by how much
line           answers along one input
turns          where they change
price_turns    prices at which an accelerator comes into use
breakeven      break-even points of an answer
why            sensitivity and break-even points together
"""
