package chattemplate_test

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
)

func ExampleTemplate_RenderConversation() {
	tmpl, err := chattemplate.Parse("chatml", `
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- endif -%}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	prompt, err := tmpl.RenderConversation(context.Background(), chattemplate.Conversation{
		Messages:            []chattemplate.Message{{Role: "user", Content: "Hello"}},
		AddGenerationPrompt: true,
	}, chattemplate.Options{})
	fmt.Println(prompt, err)
	// Output:
	// <|im_start|>user
	// Hello<|im_end|>
	// <|im_start|>assistant
	//  <nil>
}
