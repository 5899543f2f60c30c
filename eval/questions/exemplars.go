package questions

// exemplars precede every GSM8K question. lm-evaluation-harness draws five from
// GSM8K's training split; these five are of our own, in the same form, so that
// no row of the source is needed and every question has the same beginning,
// which a runner computes once.
const exemplars = `Question: A baker makes 4 trays of rolls with 12 rolls on each tray. He sells 30 rolls. How many rolls are left?
Answer: The baker makes 4 * 12 = <<4*12=48>>48 rolls.
After selling 30 there are 48 - 30 = <<48-30=18>>18 rolls left.
#### 18

Question: Nadia cycles 15 kilometers an hour. She cycles for 2 hours in the morning and for 3 hours in the evening. How many kilometers does she cycle?
Answer: She cycles 2 + 3 = <<2+3=5>>5 hours.
In that time she covers 5 * 15 = <<5*15=75>>75 kilometers.
#### 75

Question: A shirt costs $40. In a sale its price falls by 25%. How many dollars do 3 shirts cost in the sale?
Answer: The discount is 40 * 25 / 100 = $<<40*25/100=10>>10.
A shirt then costs 40 - 10 = $<<40-10=30>>30.
Three shirts cost 3 * 30 = $<<3*30=90>>90.
#### 90

Question: Omar has twice as many stamps as Lin. Together they have 1,200 stamps. How many stamps does Omar have?
Answer: Omar and Lin together have 3 times as many stamps as Lin.
So Lin has 1200 / 3 = <<1200/3=400>>400 stamps.
Omar has 2 * 400 = <<2*400=800>>800 stamps.
#### 800

Question: A tank holds 90 liters. A tap fills it with 6 liters a minute while 1 liter a minute leaks out. How many minutes does it take to fill the empty tank?
Answer: Each minute the tank gains 6 - 1 = <<6-1=5>>5 liters.
It is full after 90 / 5 = <<90/5=18>>18 minutes.
#### 18

`
